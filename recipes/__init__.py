"""One readable file per paper: its stages in order."""
