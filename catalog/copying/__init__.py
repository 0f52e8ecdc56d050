"""Copies of a catalog in another place, which may be of another engine, and moving there."""
