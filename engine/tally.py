"""What the pieces on each node amount to: counted again and again from the rows of segments.

A running tally would be a row that every request writes; this costs two hundredths of one core at most.
"""

from __future__ import annotations

import time
from collections import Counter

from catalog.interface import Reader
from catalog.keys import prefix_end
from core.workers import WorkerReport, WorkerState
from engine.bodies.store import BodyStore
from engine.layout_data import SEGMENT
from engine.records_data import SEGMENT_ROW
from engine.segments.registry import Segment

_PAGE = 256
#: Seconds between two counts at least, and in proportion to what a count took.
_PAUSE = 10.0
_SHARE = 50


class TallyWorker:
    """Counts pieces and their bytes, footers included, by node. Named `tally`. A turn looks at a page of segments."""

    name = "tally"

    def __init__(self, bodies: BodyStore) -> None:
        self._bodies = bodies
        self.interval = _PAUSE
        #: Node id → its pieces and their bytes, as of the last count; None before the first one ended.
        self.pieces: dict[bytes, tuple[int, int]] | None = None
        self._cursor = b""
        self._busy = 0.0
        self._counts: Counter[bytes] = Counter()
        self._bytes: Counter[bytes] = Counter()
        self._done = 0

    def force(self) -> None:
        """Begin the count anew."""
        self._begin()

    async def turn(self) -> WorkerState:
        start = time.thread_time()
        rows = await self._bodies.catalog.read(self._page)
        for key, data in rows:
            segment = Segment.of(key[len(SEGMENT) :], SEGMENT_ROW.decode(data))
            size = segment.shape.piece_size
            for piece in segment.row.pieces:
                if piece.node:
                    self._counts[piece.node] += 1
                    self._bytes[piece.node] += size
        self._busy += time.thread_time() - start
        if len(rows) == _PAGE:
            self._cursor = rows[-1][0]
            return WorkerState.BUSY
        self.pieces = {node: (count, self._bytes[node]) for node, count in self._counts.items()}
        self.interval = max(_PAUSE, _SHARE * self._busy)
        self._done += 1
        self._begin()
        return WorkerState.IDLE

    def report(self) -> WorkerReport:
        held = sum(size for _, size in (self.pieces or {}).values())
        return WorkerReport(progress=f"{held} bytes of pieces", counters={"counts": self._done})

    def _begin(self) -> None:
        self._cursor, self._busy = b"", 0.0
        self._counts, self._bytes = Counter(), Counter()

    async def _page(self, reader: Reader) -> list[tuple[bytes, bytes]]:
        start = self._cursor + b"\0" if self._cursor else SEGMENT
        return await reader.scan(start, prefix_end(SEGMENT), limit=_PAGE)
