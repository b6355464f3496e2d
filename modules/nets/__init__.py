"""Plain networks: they know no Lightning."""
