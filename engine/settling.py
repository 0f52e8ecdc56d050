"""Settling: bodies that wait in the catalog (`engine.bodies.stage`) are moved into packs on the nodes.

A turn takes what waits, a group at a time, while more than a little does: so it keeps up with any load, and packs get
larger the more is written. A STAGED row that leads to nothing any more, or to a body that has moved, goes. On a catalog
that was moved to another place it settles what came along.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from catalog.interface import Reader, Transaction
from core.crashpoints import reach
from core.workers import WorkerReport, WorkerState
from engine.bodies.store import BodyStore
from engine.errors import StorageFull, Unavailable
from engine.layout_data import ALIVE, BODY, ID, STAGED, parse_staged, prefix_end
from engine.moving import Move, bear_pack, point_there
from engine.records_data import BODY_ROW

log = logging.getLogger("atoll.engine")

#: Sealed bytes that one pack takes; compaction leaves packs of this size alone.
GROUP = 16 << 20
#: Groups of one turn.
_GROUPS = 16
_PAGE = 128


@dataclass(slots=True)
class _Group:
    """What one pack will take, and the STAGED rows that lead nowhere."""

    storage_class: str
    moves: list[Move]
    dead: list[bytes]
    size: int = 0  # sealed bytes of both


class SettlingWorker:
    """Moves staged bodies into packs. Named `settling`."""

    name = "settling"
    interval = 1.0

    def __init__(self, bodies: BodyStore) -> None:
        self._bodies = bodies
        self._state = WorkerState.IDLE
        self._cursor = b""
        self._trouble = ""

    async def turn(self) -> WorkerState:
        more = False
        try:
            for _ in range(_GROUPS):
                more = await self._settle()
                if not more or not self._bodies.stage.much:
                    break
        except (Unavailable, StorageFull) as error:
            if str(error) != self._trouble:
                log.warning("settling: %s", error)
            self._trouble, more = str(error), False  # tried again after the interval
        else:
            self._trouble = ""
        self._state = WorkerState.BUSY if more else WorkerState.IDLE
        return self._state

    def report(self) -> WorkerReport:
        moved, waiting = self._bodies.counters.bodies_settled, self._bodies.stage.waiting
        progress = f"{moved} bodies moved, {waiting} bytes wait"
        if self._trouble:
            progress += f": {self._trouble}"
        return WorkerReport(self._state, progress, {"bodies": moved, "waiting": waiting})

    async def _settle(self) -> bool:
        """Move one group; whether there may be more. A walk goes on where the last group ended, so that one that can't
        be moved holds up no other."""
        group = await self._next()
        if group.dead:
            await self._forget(group.dead)
        if group.moves:
            pack = await bear_pack(
                self._bodies, group.storage_class, group.moves, written=lambda: reach("settling-written")
            )
            reach("settling-born")
            self._bodies.counters.bodies_settled += await point_there(self._bodies, pack, group.moves)
            reach("settling-moved")
        self._bodies.stage.leave(group.size)
        return bool(self._cursor)

    async def _next(self) -> _Group:
        """The next group, all of one storage class."""
        group = _Group("", [], [])
        while group.size < GROUP:
            rows = await self._bodies.catalog.read(self._page)
            for key, (length, storage_class), body in rows:
                sealed = BODY_ROW.decode(body).sealed if body is not None else b""
                if sealed and group.moves and storage_class != group.storage_class:
                    continue  # for the next walk
                group.size += length
                if sealed and body is not None:
                    group.storage_class = storage_class
                    group.moves.append(Move(key[-ID:], memoryview(sealed), body.__eq__, settles=key))
                else:
                    group.dead.append(key)
            self._cursor = rows[-1][0] if len(rows) == _PAGE else b""
            if not self._cursor:
                break
            await asyncio.sleep(0)  # a page at a time: requests are answered between
        return group

    async def _page(self, reader: Reader) -> list[tuple[bytes, tuple[int, str], bytes | None]]:
        """STAGED rows behind the cursor: key, what they say, and the body's row if it is alive."""
        start = self._cursor + b"\0" if self._cursor else STAGED
        rows = await reader.scan(start, prefix_end(STAGED), limit=_PAGE)
        bodies = await reader.get_many([BODY + key[-ID:] for key, _ in rows])
        alive = await reader.get_many([ALIVE + key[-ID:] for key, _ in rows])
        return [
            (key, parse_staged(value), body if mark is not None else None)
            for (key, value), body, mark in zip(rows, bodies, alive, strict=True)
        ]

    async def _forget(self, keys: list[bytes]) -> None:
        async def forget(txn: Transaction) -> None:
            await self._bodies.epochs.guard(txn)
            for key in keys:
                txn.delete(key)

        await self._bodies.catalog.transact(forget)


class SettledElsewhere:
    """Lets go of the room in the stage of bodies that another process has settled. Named `stage`."""

    name = "stage"
    interval = 0.25

    def __init__(self, bodies: BodyStore) -> None:
        self._bodies = bodies

    async def turn(self) -> WorkerState:
        """Look at the oldest; what still waits is looked at again after the others."""
        stage = self._bodies.stage
        looked = [stage.staged.popleft() for _ in range(min(len(stage.staged), _PAGE))]

        async def look(reader: Reader) -> list[bytes | None]:
            return await reader.get_many([STAGED + body_id for body_id, _ in looked])

        moved = 0
        for (body_id, size), row in zip(looked, await self._bodies.catalog.read(look), strict=True):
            if row is None:
                moved += 1
                stage.leave(size)
            else:
                stage.staged.append((body_id, size))
        return WorkerState.BUSY if 2 * moved > len(looked) else WorkerState.IDLE

    def report(self) -> WorkerReport:
        return WorkerReport(progress=f"{self._bodies.stage.waiting} bytes wait")
