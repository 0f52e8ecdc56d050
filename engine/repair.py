"""Workers that bring segments back to full health: `repair` rebuilds pieces, `recode` widens narrow segments."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod

from catalog.interface import Reader
from core.workers import WorkerReport, WorkerState
from engine.bodies.store import BodyStore
from engine.errors import Damaged, StorageFull, Unavailable
from engine.layout_data import ID, SEGMENT, SHORT, SUSPECT, prefix_end
from engine.rebuild import rebuild_segment, recode_segment
from engine.records_data import SEGMENT_ROW

log = logging.getLogger("atoll.engine")

_PAGE = 64


class _SegmentWorker(ABC):
    """Walks the rows of one or two kinds, a segment each turn, and begins anew when it reached the end."""

    name = ""
    interval = 5.0

    def __init__(self, bodies: BodyStore, prefixes: tuple[bytes, ...]) -> None:
        self._bodies = bodies
        self._prefixes = prefixes
        self._cursor: tuple[int, bytes] = (0, b"")
        self._failed = 0
        self._done = 0
        self._state = WorkerState.IDLE

    async def _next(self) -> bytes | None:
        """The id of the next segment to look at, or None after the last."""
        place, after = self._cursor
        while place < len(self._prefixes):
            prefix = self._prefixes[place]
            start = prefix + after + b"\xff" * 8 if after else prefix

            async def first(reader: Reader, start: bytes = start, prefix: bytes = prefix) -> bytes | None:
                rows = await reader.scan(start, prefix_end(prefix), limit=1, keys_only=True)
                return rows[0][0] if rows else None

            key = await self._bodies.catalog.read(first)
            if key is not None:
                segment_id = key[len(prefix) : len(prefix) + ID]
                self._cursor = (place, segment_id)
                return segment_id
            place, after = place + 1, b""
        self._cursor = (0, b"")
        return None

    async def turn(self) -> WorkerState:
        segment_id = await self._next()
        if segment_id is None:
            self._state = WorkerState.IDLE
            return self._state
        try:
            self._done += await self._work(segment_id)
        except (Unavailable, Damaged, StorageFull) as error:
            self._failed += 1
            log.warning("%s of segment %s: %s", self.name, segment_id.hex(), error)
        self._state = WorkerState.BUSY
        return self._state

    @abstractmethod
    async def _work(self, segment_id: bytes) -> int:
        """Look at one segment; returns 1 if it was brought forward."""

    def report(self) -> WorkerReport:
        return WorkerReport(self._state, f"{self._done} segments", {"done": self._done, "failed": self._failed})


class RepairWorker(_SegmentWorker):
    """Rebuilds pieces that were proven damaged or never written. Named `repair`."""

    name = "repair"

    def __init__(self, bodies: BodyStore) -> None:
        super().__init__(bodies, (SUSPECT, SHORT))

    async def _work(self, segment_id: bytes) -> int:
        result = await rebuild_segment(self._bodies, segment_id)
        return len(result.rebuilt) > 0


class RecodeWorker(_SegmentWorker):
    """Codes narrow segments with their class's full scheme once enough nodes are up. Named `recode`."""

    name = "recode"

    def __init__(self, bodies: BodyStore) -> None:
        super().__init__(bodies, (SHORT,))

    async def _work(self, segment_id: bytes) -> int:
        async def look(reader: Reader) -> bytes | None:
            return await reader.get(SEGMENT + segment_id)

        data = await self._bodies.catalog.read(look)
        if data is None:
            return 0
        row = SEGMENT_ROW.decode(data)
        full = self._bodies.classes.get(row.storage_class).full
        if row.k >= full.k:
            return 0
        return await recode_segment(self._bodies, segment_id)
