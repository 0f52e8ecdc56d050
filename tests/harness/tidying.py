"""What makes room at once, where background work would do it in its own time."""

from __future__ import annotations

from typing import Final

#: A walk of each worker that the next ones feed on, until nothing is left to do.
TIDY: Final = ("settling", "reclaim", "collection", "compaction", "reclaim", "collection")
