"""Lightning callbacks, one duty each."""
