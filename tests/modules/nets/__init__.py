"""Tests of the plain networks."""
