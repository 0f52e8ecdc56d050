"""Settling: drafts, whose members wait in the catalog (`engine.bodies.stage`), are written as packs.

A draft's members already say where they are, so a pack needs no more than its own rows; then what waited in the catalog
goes. Killed between, nothing is lost: a reader that does not find one finds the other. On a catalog that was moved to
another place it settles what came along.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from msgspec import structs

from catalog.errors import IN_DOUBT
from catalog.interface import Reader, Transaction
from catalog.keys import u64
from core.buffers import Buffer
from core.crashpoints import reach
from core.workers import WorkerReport, WorkerState
from engine.bodies.placed import WrittenSegment
from engine.bodies.store import BodyStore
from engine.errors import StorageFull, Unavailable
from engine.layout_data import DRAFT, ID, PACK_DEAD, STAGED, parse_staged, prefix_end, staged_key
from engine.packs import put_pack, write_pack
from engine.records_data import DRAFT_ROW, DraftRow, DraftState, PackRow, is_unwritten

log = logging.getLogger("atoll.engine")

#: Rows in one read, and removed in one transaction.
_PAGE = 128
_CHUNK = 256
#: There are never as many drafts, and none has as many members.
_MOST = 100_000
#: What stands in a pack's row for the place of a body that was never committed, or is gone.
_NOBODY = bytes(ID)
#: Seconds that an operator's turn waits for drafts that other processes are about to close.
_PATIENCE = 5.0
_GLANCE = 0.05


class SettlingWorker:
    """Writes drafts as packs. Named `settling`."""

    name = "settling"
    interval = 1.0

    def __init__(self, bodies: BodyStore) -> None:
        self._bodies = bodies
        self._state = WorkerState.IDLE
        self._trouble = ""
        self._forced = False
        self._patience = 0.0  # until when drafts are waited for

    def force(self) -> None:
        """Let the next turns settle all that waits now, also what its process would leave open for a while."""
        self._forced = True

    async def turn(self) -> WorkerState:
        if self._forced:
            self._forced = False
            self._patience = time.monotonic() + _PATIENCE
        if self._patience:
            await self._bodies.stage.hand_over()
        busy, trouble = False, ""
        for pack, draft in await self._ripe():
            try:
                await self._settle(pack, draft)
                busy = True
            except (Unavailable, StorageFull) as error:  # which need not be so for the others
                trouble = str(error)
        if trouble:
            if trouble != self._trouble:
                log.warning("settling: %s", trouble)
            busy, self._patience = False, 0.0  # tried again after the interval
        self._trouble = trouble
        if self._patience and not busy:
            busy = time.monotonic() < self._patience and await self._something_waits()
            if busy:
                await asyncio.sleep(_GLANCE)
            else:
                self._patience = 0.0
        self._state = WorkerState.BUSY if busy else WorkerState.IDLE
        return self._state

    def report(self) -> WorkerReport:
        moved, waiting = self._bodies.counters.bodies_settled, self._bodies.stage.waiting
        progress = f"{moved} bodies moved, {waiting} bytes wait"
        if self._trouble:
            progress += f": {self._trouble}"
        return WorkerReport(self._state, progress, {"bodies": moved, "waiting": waiting})

    async def _ripe(self) -> list[tuple[bytes, DraftRow]]:
        """Drafts that get no further members: closed, or of a process that is no more."""

        async def look(reader: Reader) -> list[tuple[bytes, DraftRow]]:
            found = []
            for key, value in await reader.scan(DRAFT, prefix_end(DRAFT), limit=_MOST):
                draft = DRAFT_ROW.decode(value)
                if draft.state is not DraftState.OPEN or not await self._bodies.epochs.lives(reader, u64(draft.epoch)):
                    found.append((key[len(DRAFT) :], draft))
            return found

        return await self._bodies.catalog.read(look)

    async def _something_waits(self) -> bool:
        return await self._bodies.catalog.read(_any_staged)

    async def _settle(self, pack: bytes, draft: DraftRow) -> None:
        members = [] if draft.state is DraftState.BORN else await self._members(pack)
        if members and not await self._write(pack, draft, members):
            return  # another process was faster
        if members:
            done_with = [staged_key(pack, offset) for offset, _, _ in members]
        else:  # it was written before, or nothing is left of it: then also the marks of those who died go
            prefixes = [STAGED + pack, *([PACK_DEAD + pack] if draft.state is not DraftState.BORN else [])]
            done_with = [key for prefix in prefixes for key in await self._keys(prefix)]
        await self._clear(pack, done_with)
        reach("settling-moved")
        self._bodies.counters.bodies_settled += len(members)
        self._bodies.stage.settled(pack)

    async def _members(self, pack: bytes) -> list[tuple[int, bytes, memoryview]]:
        """Offset, body id and sealed bytes of a draft's members, in the order of their places."""
        prefix = STAGED + pack
        start, end = prefix, prefix_end(prefix)
        found: list[tuple[int, bytes, memoryview]] = []

        async def page(reader: Reader) -> list[tuple[bytes, bytes]]:
            return await reader.scan(start, end, limit=_PAGE)

        while rows := await self._bodies.catalog.read(page):
            found += [parse_staged(key, value) for key, value in rows]
            if len(rows) < _PAGE:
                break
            start = rows[-1][0] + b"\0"
            await asyncio.sleep(0)  # a page at a time: requests are answered between
        return found

    async def _write(self, pack: bytes, draft: DraftRow, members: Sequence[tuple[int, bytes, memoryview]]) -> bool:
        """Write the pack and commit its rows; False where that was done meanwhile."""
        bodies = self._bodies
        ids: list[bytes] = []
        parts: list[Buffer] = []
        place = 0
        for offset, body_id, sealed in members:
            if offset > place:
                ids.append(_NOBODY)
                parts.append(bytes(offset - place))
            ids.append(body_id)
            parts.append(sealed)
            place = offset + sealed.nbytes
        kind = bodies.classes.get(draft.storage_class)
        segment = await write_pack(bodies.write_tools, kind, parts, segment_id=pack)
        reach("settling-written")
        row = PackRow(bodies=b"".join(ids), lengths=tuple(map(len, parts)), epoch=bodies.epochs.epoch)
        try:
            born = await bodies.catalog.transact(lambda txn: self._bear(txn, segment, row, ids))
        except IN_DOUBT:
            raise
        except BaseException:
            bodies.write_tools.drop(segment.row)
            raise
        if not born:
            bodies.write_tools.drop(segment.row)
        reach("settling-born")
        return born

    async def _bear(self, txn: Transaction, segment: WrittenSegment, row: PackRow, members: Sequence[bytes]) -> bool:
        await self._bodies.epochs.guard(txn)
        value = await txn.get(DRAFT + segment.id)
        if value is None or not is_unwritten(value):
            return False
        put_pack(txn, segment, row)
        if _NOBODY in members:
            txn.put(PACK_DEAD + segment.id + _NOBODY, bytes(4))
        txn.put(DRAFT + segment.id, DRAFT_ROW.encode(structs.replace(DRAFT_ROW.decode(value), state=DraftState.BORN)))
        return True

    async def _keys(self, prefix: bytes) -> list[bytes]:
        async def scan(reader: Reader) -> list[bytes]:
            rows = await reader.scan(prefix, prefix_end(prefix), limit=_MOST, keys_only=True)
            return [key for key, _ in rows]

        return await self._bodies.catalog.read(scan)

    async def _clear(self, pack: bytes, keys: Sequence[bytes]) -> None:
        """Remove what waited for the pack, and at last the draft."""
        for start in range(0, max(len(keys), 1), _CHUNK):
            chunk = [*keys[start : start + _CHUNK], *([DRAFT + pack] if start + _CHUNK >= len(keys) else [])]

            async def remove(txn: Transaction, chunk: Sequence[bytes] = chunk) -> None:
                await self._bodies.epochs.guard(txn)
                for key in chunk:
                    txn.delete(key)

            await self._bodies.catalog.transact(remove)


async def _any_staged(reader: Reader) -> bool:
    return bool(await reader.scan(STAGED, prefix_end(STAGED), limit=1, keys_only=True))
