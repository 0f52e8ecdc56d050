"""Segments: runs of sealed bytes, coded and placed as a unit."""
