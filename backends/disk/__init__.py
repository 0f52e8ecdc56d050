"""Pieces as files in one folder of one disk.

Layout of the folder: `node.marker` (who it is), `pieces/<xx>/<name>` (complete, synced pieces; `xx` are the first two
hex characters of the name's random part), `incoming/` (pieces on their way in; emptied at open).
"""

from __future__ import annotations

from backends.disk.backend import DiskBackend
from backends.disk.marker import NodeMarker, initialise, read_marker

__all__ = ["DiskBackend", "NodeMarker", "initialise", "read_marker"]
