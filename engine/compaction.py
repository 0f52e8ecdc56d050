"""Compaction: small packs become large ones, half-dead packs give their space back. Copies sealed bytes, no keys.

The live members of some packs are written as one new pack; then each body's row is pointed there, if it still points
where it did and the body is alive; then each old pack that nothing alive points into is retired. A reader that began
before goes on with the old pack until collection, which waits for it. Killed anywhere, nothing is lost: the next run
sees which members each pack really has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from catalog.interface import Reader, Transaction
from catalog.keys import u64
from core.crashpoints import reach
from core.workers import WorkerReport, WorkerState
from engine.bodies.store import BodyStore
from engine.errors import Damaged, StorageFull, Unavailable
from engine.layout_data import ALIVE, BODY, PACK, PACK_DEAD, QUEUE_SEGMENT, SEGMENT, prefix_end
from engine.moving import Move, bear_pack, no_pause, point_there
from engine.records_data import BODY_ROW, PACK_ROW, SEGMENT_ROW, PackRow
from engine.segments.proof import VerifiedSegment

T = TypeVar("T")

log = logging.getLogger("atoll.engine")

#: A pack below this is small.
SMALL = 16 << 20
#: Live bytes that one compaction takes at most.
GROUP = 24 << 20
#: Members that one compaction moves at most: bounds its memory and transactions.
_MEMBERS = 8192
#: Small packs that wait before an unforced compaction merges them, unless they make a whole pack.
_PATIENCE = 64
_PAGE = 128
_CHUNK = 256
#: Packs that are looked at, or read, at once: a networked catalog then answers for all of them together.
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class _Member:
    body_id: bytes
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Pack:
    id: bytes
    storage_class: str
    size: int
    members: tuple[bytes, ...]
    live: tuple[_Member, ...]
    live_bytes: int

    @property
    def wasteful(self) -> bool:
        return 2 * self.live_bytes <= self.size


@dataclass(slots=True)
class _Group:
    """Packs of one class that are to become one."""

    packs: list[_Pack] = field(default_factory=list)
    live_bytes: int = 0
    members: int = 0

    def add(self, pack: _Pack) -> None:
        self.packs.append(pack)
        self.live_bytes += pack.live_bytes
        self.members += len(pack.live)

    @property
    def full(self) -> bool:
        return self.live_bytes >= GROUP or self.members >= _MEMBERS


class CompactionWorker:
    """Merges and rewrites packs. Named `compaction`. A turn looks at a page of packs or compacts one group; between
    pieces of that it awaits `breathe`, where whoever runs it may let others go first."""

    name = "compaction"
    interval = 60.0

    def __init__(self, bodies: BodyStore, breathe: Callable[[], Awaitable[None]] = no_pause) -> None:
        self._bodies = bodies
        self._breathe = breathe
        self._state = WorkerState.IDLE
        self._cursor = b""
        self._small: dict[str, _Group] = {}
        self._force = False
        self._exact = True  # the first walk counts members one by one: a crash may have left unmarked dead ones
        self._living: set[int] = set()  # epochs, when the last walk began

    def force(self) -> None:
        """Let the next walk merge whatever is small, however little it is, and count members one by one."""
        self._force = self._exact = True
        self._cursor, self._small = b"", {}

    async def turn(self) -> WorkerState:
        await self._mark_lost_slices()
        if not self._cursor:
            await self._look_for_the_dead()
        try:
            more = await self._walk()
        except (Unavailable, Damaged, StorageFull) as error:
            log.warning("compaction: %s", error)
            self._small.clear()
            more = True
        if not more:
            self._force = self._exact = False
            self._cursor = b""
        self._state = WorkerState.BUSY if more else WorkerState.IDLE
        return self._state

    async def standby(self) -> WorkerState:
        """Tell whoever compacts which slices this process wrote in vain."""
        await self._mark_lost_slices()
        return WorkerState.IDLE

    def report(self) -> WorkerReport:
        counters = self._bodies.counters
        progress = f"{counters.compactions} packs retired, {counters.bodies_moved} bodies moved"
        return WorkerReport(self._state, progress, {"packs": counters.compactions, "bodies": counters.bodies_moved})

    async def _mark_lost_slices(self) -> None:
        """Slices of packs whose body's transaction failed."""
        lost = list(self._bodies.lost_slices)

        async def mark(txn: Transaction) -> None:
            for pack, body_id, length in lost:
                if await txn.get(PACK + pack) is not None:
                    txn.put(PACK_DEAD + pack + body_id, length.to_bytes(4, "big"))

        if lost:
            await self._bodies.catalog.transact(mark)
            # Only now, so that none is forgotten when that fails; more may have come meanwhile, behind these.
            del self._bodies.lost_slices[: len(lost)]

    async def _look_for_the_dead(self) -> None:
        """A gateway that died since the last walk can't mark any more which slices it wrote in vain."""
        living = set(await self._bodies.epochs.live())
        self._exact = self._exact or not self._living <= living
        self._living = living

    async def _walk(self) -> bool:
        """Look at the next page of packs; compact a group when there is one. False at the end of the walk."""
        rows = await self._page(self._cursor)
        busy = self._bodies.packs_in_flight()
        empty: list[_Pack] = []
        for run in _runs([(key, data) for key, data in rows if key[len(PACK) :] not in busy]):
            await self._breathe()
            packs = await asyncio.gather(
                *(self._candidate(key[len(PACK) :], PACK_ROW.decode(data)) for key, data in run)
            )
            for (key, _), pack in zip(run, packs, strict=True):
                self._cursor = key
                if pack is None:
                    continue
                if not pack.live:
                    empty.append(pack)
                    continue
                group = self._small.setdefault(pack.storage_class, _Group())
                group.add(pack)
                if group.full:
                    del self._small[pack.storage_class]
                    await self._retire_all(empty)
                    await self._compact(group.packs)
                    return True
        self._cursor = rows[-1][0] if rows else self._cursor
        await self._retire_all(empty)
        if len(rows) == _PAGE:
            return True
        for storage_class, group in list(self._small.items()):
            del self._small[storage_class]
            many = len(group.packs) >= _PATIENCE or (self._force and len(group.packs) > 1)
            if group.live_bytes >= SMALL or many or any(pack.wasteful for pack in group.packs):
                await self._compact(group.packs)
        return False

    async def _page(self, after: bytes) -> list[tuple[bytes, bytes]]:
        async def scan(reader: Reader) -> list[tuple[bytes, bytes]]:
            return await reader.scan(after + b"\0" if after else PACK, prefix_end(PACK), limit=_PAGE)

        return await self._bodies.catalog.read(scan)

    async def _candidate(self, pack_id: bytes, row: PackRow) -> _Pack | None:
        """The pack with its live members, if compaction should take it."""
        members = [_Member(*member) for member in row.members()]
        size = sum(member.length for member in members)
        exact = self._exact

        async def look(reader: Reader) -> _Pack | None:
            if not exact and size >= SMALL:
                prefix = PACK_DEAD + pack_id
                dead = await reader.scan(prefix, prefix_end(prefix), limit=len(members))
                if 2 * sum(int.from_bytes(value, "big") for _, value in dead) < size:
                    return None
            data: bytes | None = None
            live: list[_Member] = []
            bodiless: list[_Member] = []
            for chunk in _runs(members, _CHUNK):
                keys = _rows_of(pack_id, [member.body_id for member in chunk])
                data, *rows = await reader.get_many([SEGMENT + pack_id, *keys])
                if data is None:
                    return None
                for member, body, mark in zip(chunk, rows[0::3], rows[1::3], strict=True):
                    if mark is not None and _is_at(pack_id, member, body):
                        live.append(member)
                    if body is None:
                        bodiless.append(member)
            if data is None:
                return None
            if bodiless and await self._may_fill(reader, pack_id, row, bodiless):
                return None
            storage_class = SEGMENT_ROW.decode(data).storage_class
            live_bytes = sum(member.length for member in live)
            ids = tuple(member.body_id for member in members)
            pack = _Pack(pack_id, storage_class, size, ids, tuple(live), live_bytes)
            return pack if size < SMALL or pack.wasteful else None

        return await self._bodies.catalog.read(look, long=len(members) > 2000)

    async def _may_fill(self, reader: Reader, pack_id: bytes, row: PackRow, bodiless: Sequence[_Member]) -> bool:
        """Whether another gateway may be about to commit one of the members without a body. Which of our own packs are
        under way we know; and what another's transactions left behind in vain, it marks as dead (see `standby`)."""
        epochs = self._bodies.epochs
        if row.epoch == epochs.epoch or not await epochs.lives(reader, u64(row.epoch)):
            return False
        marks = await reader.get_many([PACK_DEAD + pack_id + member.body_id for member in bodiless])
        return None in marks

    async def _compact(self, group: Sequence[_Pack]) -> None:
        """Move the live members of `group` into one new pack and retire what they leave."""
        if len(group) == 1 and not group[0].wasteful:
            return
        moves = []
        for run in _runs(group):
            await self._breathe()
            for pack, members in zip(run, await asyncio.gather(*map(self._read, run)), strict=True):
                moves += [Move(member.body_id, sealed, partial(_is_at, pack.id, member)) for member, sealed in members]
        if not moves:
            return  # another gateway was faster
        new = await bear_pack(self._bodies, group[0].storage_class, moves, written=lambda: reach("compaction-written"))
        reach("compaction-born")
        self._bodies.counters.bodies_moved += await point_there(self._bodies, new, moves, self._breathe)
        reach("compaction-moved")
        await self._retire_all(group)
        reach("compaction-retired")

    async def _read(self, pack: _Pack) -> list[tuple[_Member, memoryview]]:
        """The sealed bytes of a pack's live members, proven."""
        segment = await self._bodies.registry.get(pack.id, fresh=True)
        if segment is None:
            return []
        verified = VerifiedSegment(self._bodies.read_tools, segment)
        size = segment.shape.stripe_size
        wanted = {
            stripe
            for member in pack.live
            for stripe in range(member.offset // size, (member.offset + member.length - 1) // size + 1)
        }
        stripes: dict[int, bytes] = {}
        for stripe in sorted(wanted):
            stripes[stripe] = b"".join(await verified.sealed_stripe(stripe))
        found = []
        for member in pack.live:
            parts = []
            place, left = member.offset, member.length
            while left:
                stripe, within = divmod(place, size)
                part = memoryview(stripes[stripe])[within : within + left]
                parts.append(part)
                place += part.nbytes
                left -= part.nbytes
            found.append((member, parts[0] if len(parts) == 1 else memoryview(b"".join(parts))))
        return found

    async def _retire_all(self, packs: Sequence[_Pack]) -> None:
        """Retire packs, several in a transaction as long as their members are few."""
        batch: list[_Pack] = []
        members = 0
        for pack in packs:
            if batch and members + len(pack.members) > _CHUNK:
                await self._retire(batch)
                batch, members = [], 0
            batch.append(pack)
            members += len(pack.members)
        if batch:
            await self._retire(batch)

    async def _retire(self, packs: Sequence[_Pack]) -> None:
        """Queue packs' segments for collection, except those that something alive still points into."""
        await self._breathe()

        async def retire(txn: Transaction) -> int:
            await self._bodies.epochs.guard(txn)
            if len(packs) > 1:  # what is looked at below, all at once
                keys = [key for pack in packs for key in (PACK + pack.id, *_rows_of(pack.id, pack.members))]
                await txn.get_many(keys)
            return sum([await _retire_one(txn, pack.id) for pack in packs])

        self._bodies.counters.compactions += await self._bodies.catalog.transact(retire)


def _rows_of(pack_id: bytes, body_ids: Sequence[bytes]) -> list[bytes]:
    """Three keys for each member of a pack: of its body, of that it is alive, and of that it is marked as dead here."""
    return [key for body_id in body_ids for key in (BODY + body_id, ALIVE + body_id, PACK_DEAD + pack_id + body_id)]


def _runs(items: Sequence[T], length: int = _AT_ONCE) -> Iterator[Sequence[T]]:
    """The items in order, so many at a time."""
    return (items[start : start + length] for start in range(0, len(items), length))


async def _retire_one(txn: Transaction, pack_id: bytes) -> bool:
    data = await txn.get(PACK + pack_id)
    if data is None:
        return False
    marked: list[bytes] = []
    for chunk in _runs([_Member(*member) for member in PACK_ROW.decode(data).members()], _CHUNK):
        keys = _rows_of(pack_id, [member.body_id for member in chunk])
        rows = await txn.get_many(keys)
        for member, body, mark in zip(chunk, rows[0::3], rows[1::3], strict=True):
            if mark is not None and _is_at(pack_id, member, body):
                return False
        marked += [key for key, mark in zip(keys[2::3], rows[2::3], strict=True) if mark is not None]
    for key in marked:
        txn.delete(key)
    txn.delete(PACK + pack_id)
    txn.put(QUEUE_SEGMENT + pack_id, b"")
    return True


def _is_at(pack_id: bytes, member: _Member, body: bytes | None) -> bool:
    return body is not None and BODY_ROW.decode(body).slice == (pack_id, member.offset, member.length)
