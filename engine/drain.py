"""Emptying nodes that are to go: what they hold is rebuilt on others, from whatever can be read."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from catalog.interface import Reader, Transaction
from core.workers import WorkerReport, WorkerState
from engine.bodies.store import BodyStore
from engine.errors import Damaged, StorageFull, Unavailable
from engine.layout_data import QUEUE_PIECE, SEGMENT, prefix_end
from engine.ports import Node
from engine.rebuild import rebuild_segment
from engine.records_data import SEGMENT_ROW

log = logging.getLogger("atoll.engine")

_PAGE = 64
_QUEUE = 1000
#: Walks in a row that must find nothing: what was being written when the first began is committed by the next.
_CLEAN_WALKS = 2


class Departures(Protocol):
    """Which nodes are to go; wiring knows."""

    def leaving(self) -> list[Node]: ...

    def lost(self, node_id: bytes) -> bool:
        """Whether it won't come back, so that what should be deleted there is gone already."""
        ...

    def forget(self, node_id: bytes) -> Awaitable[None]:
        """It holds nothing any more."""
        ...


class DrainWorker:
    """Moves pieces off leaving nodes and lets the empty ones go. Named `drain`. A turn looks at a page of segments."""

    name = "drain"
    interval = 5.0

    def __init__(
        self, bodies: BodyStore, departures: Departures, *, vacated: Callable[[Node], Awaitable[bool]] | None = None
    ) -> None:
        """`vacated` tells of an empty node whether it has nothing of the catalog's snapshots either."""
        self._bodies, self._departures, self._vacated = bodies, departures, vacated
        self._cursor = b""
        self._clean: dict[bytes, int] = {}  # leaving node -> walks in a row that found nothing of it
        self._found: set[bytes] = set()  # nodes that this walk found something of
        self._moved = self._failed = 0
        self._state = WorkerState.IDLE

    async def turn(self) -> WorkerState:
        leaving = {node.id for node in self._departures.leaving()}
        if leaving != self._clean.keys():
            self._clean = {node_id: self._clean.get(node_id, 0) for node_id in leaving}
            self._cursor, self._found = b"", set()
        self._state = await self._walk(leaving) if leaving else WorkerState.IDLE
        return self._state

    def report(self) -> WorkerReport:
        names = ", ".join(node.name for node in self._departures.leaving())
        counters = {"segments": self._moved, "failed": self._failed}
        return WorkerReport(self._state, f"emptying {names}" if names else "no node is to go", counters)

    async def _walk(self, leaving: set[bytes]) -> WorkerState:
        rows = await self._bodies.catalog.read(self._page)
        for key, data in rows:
            pieces = SEGMENT_ROW.decode(data).pieces
            indexes = [index for index, piece in enumerate(pieces) if piece.node in leaving]
            if indexes:
                self._found.update(pieces[index].node for index in indexes)
                await self._move(key[len(SEGMENT) :], indexes)
        if len(rows) == _PAGE:
            self._cursor = rows[-1][0]
            return WorkerState.BUSY
        return await self._conclude(leaving)

    async def _page(self, reader: Reader) -> list[tuple[bytes, bytes]]:
        start = self._cursor + b"\0" if self._cursor else SEGMENT
        return await reader.scan(start, prefix_end(SEGMENT), limit=_PAGE)

    async def _move(self, segment_id: bytes, indexes: list[int]) -> None:
        try:
            result = await rebuild_segment(self._bodies, segment_id, also=indexes)
        except (Unavailable, Damaged, StorageFull) as error:
            self._failed += 1
            log.warning("pieces of segment %s can't be moved: %s", segment_id.hex(), error)
            return
        self._moved += bool(result.rebuilt)
        self._failed += bool(result.missing)

    async def _conclude(self, leaving: set[bytes]) -> WorkerState:
        """The end of a walk. The next one comes after the interval."""
        for node_id in leaving:
            clean = self._clean[node_id] = 0 if node_id in self._found else self._clean[node_id] + 1
            if clean >= _CLEAN_WALKS and await self._is_tidy(node_id) and await self._is_vacant(node_id):
                await self._departures.forget(node_id)
        self._cursor, self._found = b"", set()
        return WorkerState.IDLE

    async def _is_tidy(self, node_id: bytes) -> bool:
        """Whether nothing is queued for deletion there; of a lost node that is forgotten."""
        prefix = QUEUE_PIECE + node_id

        async def queued(reader: Reader) -> list[tuple[bytes, bytes]]:
            return await reader.scan(prefix, prefix_end(prefix), limit=_QUEUE, keys_only=True)

        rows = await self._bodies.catalog.read(queued)
        if not rows or not self._departures.lost(node_id):
            return not rows

        async def forget(txn: Transaction) -> None:
            for key, _ in rows:
                txn.delete(key)

        await self._bodies.catalog.transact(forget)
        return len(rows) < _QUEUE

    async def _is_vacant(self, node_id: bytes) -> bool:
        """Whether nothing of snapshots that a restore would take is on it; a lost node has taken that with it."""
        node = self._bodies.placer.node(node_id)
        if self._vacated is None or node is None or self._departures.lost(node_id):
            return True
        return await self._vacated(node)
