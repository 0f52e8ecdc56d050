"""`BodyStore`: bodies on nodes. See `engine.bodies.interface.Bodies` for the contract."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from catalog.epochs import Epochs, Pin
from catalog.errors import IN_DOUBT, CatalogFull, CommitUnknown, EpochLost
from catalog.interface import Catalog, Transaction
from core.buffers import Buffer, Source, unset
from core.crashpoints import reach
from core.ids import new_id, new_ordered_id
from engine import references
from engine.bodies.at_once import AtOnce, came_through
from engine.bodies.download import Download
from engine.bodies.intake import BufferPool, DigestLine, Intake, one_chunk
from engine.bodies.interface import MAX_FETCH, BodyRef, StoredBody
from engine.bodies.locations import Locations
from engine.bodies.placed import Inline, Segments, Staged, Waiting
from engine.bodies.stage import Stage
from engine.bodies.upload import Upload, WriteTools
from engine.classes import StorageClasses
from engine.counters import EngineCounters
from engine.errors import StorageFull, Unavailable
from engine.layout_data import BODY, PACK, QUEUE_BODY, SEGMENT, SHORT
from engine.packs import Packer, PackTicket
from engine.ports import Placer
from engine.records_data import BODY_ROW, SEGMENT_ROW, BodyRow
from engine.segments.fetch import HedgeBudget, ReadTools
from engine.segments.read import SegmentReader
from engine.segments.registry import Segment, SegmentRegistry
from engine.segments.reports import Reports
from engine.segments.trash import Trash
from engine.segments.write import WriteLimits
from engine.types import Digest, Finish, Outcome
from erasure.codec import Codec
from erasure.codecs import default_codec
from erasure.frames import FRAME_PLAIN, sealed_length
from erasure.keys import body_key as derive_body_key
from erasure.seal import BodySealer, seal_whole

T = TypeVar("T")

#: Plaintext bytes up to which a body lives in its catalog row, and up to which it goes into a pack.
INLINE_LIMIT = 4 << 10
PACK_LIMIT = 1 << 20
#: Digesting and sealing of less than this run on the event loop: a thread would cost more.
_INLINE_WORK = 96 << 10


@dataclass(frozen=True, slots=True)
class BodySettings:
    """Tuning. `threads` 0 means one for each processor, at least two. `stage`: sealed bytes of small bodies that may
    wait in the catalog for their packs; 0 writes each pack before its bodies are acknowledged."""

    threads: int = 0
    pack_lanes: int = 1
    stage: int = 0
    limits: WriteLimits = field(default_factory=WriteLimits)


class _PackNotBorn(Exception):
    """The transaction ran before the one that brings its pack to life."""


class BodyStore:
    """Stores, commits, reads and releases bodies. Belongs to the event loop that made it; `close` ends it."""

    def __init__(
        self,
        catalog: Catalog,
        epochs: Epochs,
        placer: Placer,
        *,
        classes: StorageClasses | None = None,
        settings: BodySettings | None = None,
        codec: Codec | None = None,
    ) -> None:
        settings = settings or BodySettings()
        self.catalog, self.epochs, self.placer = catalog, epochs, placer
        self.classes = classes or StorageClasses()
        # Four rows of a small body are keyed by its id. In LMDB's tree those of one commit should share pages; in a
        # database that many gateways write to at once neighbours collide.
        self._new_id = new_ordered_id if catalog.local else new_id
        self.counters = EngineCounters()
        self.trash = Trash()
        self.reports = Reports(self.counters)
        self.registry = SegmentRegistry(catalog)
        self.locations = Locations(catalog)
        self.stage = Stage(catalog, epochs, placer, self.classes, limit=settings.stage)
        #: Slices of packs whose body was never committed: (pack id, body id, sealed length), for compaction.
        self.lost_slices: list[tuple[bytes, bytes, int]] = []
        threads = settings.threads or max(2, os.cpu_count() or 2)
        self._pool: Executor = ThreadPoolExecutor(threads, thread_name_prefix="atoll-code")
        self._digest_pool: Executor = ThreadPoolExecutor(threads, thread_name_prefix="atoll-digest")
        self._buffers = BufferPool()
        self._settings = settings
        codec = codec or default_codec()
        self.write_tools = WriteTools(
            placer, codec, self._pool, self.counters, self.trash, settings.limits, epochs.epoch
        )
        self.read_tools = ReadTools(
            placer, codec, self._pool, self.counters, self.registry, self.reports, HedgeBudget()
        )
        self._reader = SegmentReader(self.read_tools)
        self._download = Download(self.read_tools, self._reader, self.locations)
        # See `Bodies`. Every small request makes these calls: none should only pass another on.
        self.pin: Callable[[], Pin] = epochs.take_pin
        self.fetch_now = self._download.fetch_now
        self.commit_known = AtOnce(catalog, epochs, self.stage, self.locations, self.counters).commit
        self._packers: dict[str, Packer] = {}

    async def start(self) -> None:
        """Load what is known of damage, and open the stage."""
        await self.registry.load_suspects()
        await self.stage.turn()

    async def close(self) -> None:
        """Wait for packs and reads under way, and end the threads. Callers have ended before."""
        for packer in self._packers.values():
            await packer.close()
        await self._reader.close()
        self._pool.shutdown(wait=True)
        self._digest_pool.shutdown(wait=True)

    # -- writing

    async def store(
        self,
        source: Source | bytes,
        *,
        content_key: bytes,
        storage_class: str,
        digests: Sequence[Digest] = (),
        finish: Finish,
        size_hint: int | None = None,
    ) -> StoredBody:
        """See `Bodies.store`."""
        kind = self.classes.get(storage_class)
        body_id = self._new_id()
        key = derive_body_key(content_key, body_id)
        if isinstance(source, bytes) and len(source) <= FRAME_PLAIN:
            for digest in digests:
                digest.update(source)
            outcome = finish(len(source))
            return self._small(body_id, len(source), outcome, seal_whole(key, body_id, source), kind.name)
        sealer = BodySealer(key, body_id)
        if isinstance(source, bytes) and len(source) <= PACK_LIMIT:
            return await self._store_small(source, sealer, kind.name, digests, finish)
        intake = Intake(one_chunk(source) if isinstance(source, bytes) else source)
        data, whole = await intake.small(PACK_LIMIT)
        if whole:
            return await self._store_small(data, sealer, kind.name, digests, finish)
        intake.push_back(data)
        del data
        line = DigestLine(digests, self._digest_pool)
        upload = Upload(self.write_tools, self._buffers, kind, sealer, intake, line, size_hint)
        length, segments = await upload.run()
        placed = Segments(segments)
        try:
            outcome = finish(length)
        except BaseException:
            self._drop(placed)
            raise
        self.counters.bodies_segmented += 1
        self.counters.bytes_written += length
        return StoredBody(body_id, length, outcome, placed)

    async def _store_small(
        self,
        data: bytes,
        sealer: BodySealer,
        storage_class: str,
        digests: Sequence[Digest],
        finish: Finish,
    ) -> StoredBody:
        length = len(data)
        sealed = unset(sealed_length(length))
        if length <= _INLINE_WORK:
            for digest in digests:
                digest.update(data)
        else:
            await DigestLine(digests, self._digest_pool).feed(data)
        outcome = finish(length)
        sealer.seal(0, data, sealed, last=True)  # at most 1 MiB: 0.1 ms
        return self._small(sealer.body_id, length, outcome, sealed, storage_class)

    def _small(self, body_id: bytes, length: int, outcome: Outcome, sealed: Buffer, storage_class: str) -> StoredBody:
        counters = self.counters
        counters.bytes_written += length
        if length <= INLINE_LIMIT:
            counters.bodies_inline += 1
            return StoredBody(body_id, length, outcome, Inline(bytes(sealed)))
        counters.bodies_packed += 1
        return StoredBody(body_id, length, outcome, Waiting(sealed, storage_class))

    async def commit(self, stored: Sequence[StoredBody], function: Callable[[Transaction], Awaitable[T]]) -> T:
        """See `Bodies.commit`."""
        ticket: PackTicket | None = None
        try:
            ticket = await self._place(stored)
            if stored:
                reach("pieces-written")
            return await self._transact(stored, ticket, function)
        except IN_DOUBT:
            raise  # the bytes may be referenced: what is not is found by the epoch in its name
        except BaseException:
            await self._discard(stored, ticket)
            raise
        finally:
            if ticket is not None:
                ticket.finish()
            for body in stored:
                if isinstance(body.placed, Staged):
                    self.stage.leave(body.placed.slot)

    async def _place(self, stored: Sequence[StoredBody]) -> PackTicket | None:
        """Stage the small bodies, or put them into a pack, all into the same one: they are committed together."""
        waiting = [(body.id, body.placed) for body in stored if isinstance(body.placed, Waiting)]
        if not waiting:
            return None
        storage_class = waiting[0][1].storage_class
        if len(waiting) > 1 and any(placed.storage_class != storage_class for _, placed in waiting):
            raise ValueError("one commit packs bodies of one storage class")
        slot = self.stage.enter(len(waiting[0][1].sealed), storage_class) if len(waiting) == 1 else None
        if slot is not None:
            for body in stored:
                if isinstance(body.placed, Waiting):
                    body.placed = Staged(body.placed.sealed, slot)
            return None
        packer = self._packers.get(storage_class) or self._packer(storage_class)
        return await packer.place([(body_id, placed.sealed) for body_id, placed in waiting])

    async def _transact(
        self,
        stored: Sequence[StoredBody],
        ticket: PackTicket | None,
        function: Callable[[Transaction], Awaitable[T]],
    ) -> T:
        rows = {body.id: _body_row(body, ticket) for body in stored}
        result: list[T] = []

        async def run(txn: Transaction) -> T:
            await self.epochs.guard(txn)
            if ticket is not None and await txn.get(PACK + ticket.pack) is None:
                raise _PackNotBorn
            for body in stored:
                txn.put(BODY + body.id, BODY_ROW.encode(rows[body.id]))
                references.create(txn, body.id)
                if isinstance(body.placed, Staged):
                    txn.put(body.placed.slot.key, body.id + body.placed.sealed)
                elif isinstance(body.placed, Segments):
                    for segment in body.placed.segments:
                        txn.put(SEGMENT + segment.id, SEGMENT_ROW.encode(segment.row))
                        if segment.needs_care:
                            txn.put(SHORT + segment.id, b"")
            outcome = await function(txn)
            result[:] = [outcome]
            return outcome

        reach("before-commit")
        try:
            try:
                outcome = await self.catalog.transact(run)
            except _PackNotBorn:
                assert ticket is not None
                await asyncio.shield(ticket.born)  # which others wait for, too
                outcome = await self.catalog.transact(run)
        except _PackNotBorn:
            raise Unavailable("the pack of a body was given up") from None
        except EpochLost as error:
            raise Unavailable("this gateway's epoch was declared dead") from error
        except CatalogFull as error:
            raise StorageFull("the catalog has no space") from error
        except CommitUnknown as doubt:
            if not stored or not await came_through(self.catalog, stored[0].id, doubt):
                raise
            outcome = result[0]
        reach("after-commit")
        for body in stored:
            self.locations.put(body.id, rows[body.id])
            if isinstance(body.placed, Staged):
                self.counters.bodies_staged += 1
            elif isinstance(body.placed, Segments):
                for segment in body.placed.segments:
                    self.registry.put(Segment.of(segment.id, segment.row))
        return outcome

    def _packer(self, storage_class: str) -> Packer:
        packer = self._packers.get(storage_class)
        if packer is None:
            kind = self.classes.get(storage_class)
            packer = Packer(
                self.write_tools,
                kind,
                self.catalog,
                self.epochs,
                lost=self._lose_slice,
                lanes=self._settings.pack_lanes,
            )
            self._packers[storage_class] = packer
        return packer

    async def discard(self, stored: Sequence[StoredBody]) -> None:
        """See `Bodies.discard`."""
        await self._discard(stored, None)

    async def _discard(self, stored: Sequence[StoredBody], ticket: PackTicket | None) -> None:
        for body in stored:
            self._drop(body.placed)
            if ticket is not None and body.id in ticket.slices:
                self._lose_slice(ticket.pack, body.id, ticket.slices[body.id][1])

    def _lose_slice(self, pack: bytes, body_id: bytes, length: int) -> None:
        self.lost_slices.append((pack, body_id, length))

    def _drop(self, placed: object) -> None:
        self.counters.bodies_discarded += 1
        if isinstance(placed, Segments):
            for segment in placed.segments:
                self.write_tools.drop(segment.row)

    # -- reading

    def read(self, ref: BodyRef, body_key: bytes, offset: int, length: int) -> AsyncIterator[memoryview]:
        """See `Bodies.read`. Chunks are never changed after they were handed out."""
        return self._download.stream(ref.id, ref.length, body_key, offset, length)

    async def fetch(self, ref: BodyRef, body_key: bytes, offset: int, length: int) -> bytes:
        """See `Bodies.fetch`."""
        if length > MAX_FETCH:
            raise ValueError(f"fetch of {length} bytes")
        return await self._download.fetch(ref.id, ref.length, body_key, offset, length)

    # -- life and death

    async def release(self, txn: Transaction, body_id: bytes) -> None:
        """See `Bodies.release`. The body's row stays until collection: readers with a pin still need it."""
        txn.put(QUEUE_BODY + body_id, b"")

    async def all_passed(self, sequence: int) -> bool:
        """See `Bodies.all_passed`."""
        return await self.epochs.all_passed(sequence)

    def packs_in_flight(self) -> set[bytes]:
        """Packs some of whose bodies are not committed yet: compaction leaves them alone."""
        return {pack for packer in self._packers.values() for pack in packer.in_flight}


def _body_row(body: StoredBody, ticket: PackTicket | None) -> BodyRow:
    placed = body.placed
    if isinstance(placed, Inline):
        return BodyRow(sealed=placed.sealed)
    if isinstance(placed, Staged):
        return placed.slot.row
    if isinstance(placed, Segments):
        return BodyRow(segments=tuple((segment.id, segment.row.sealed_length) for segment in placed.segments))
    assert ticket is not None
    return BodyRow(slice=(ticket.pack, *ticket.slices[body.id]))
