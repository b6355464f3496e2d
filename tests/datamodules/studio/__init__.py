"""Tests: they mirror the tree and run on tiny generated data."""
