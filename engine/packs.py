"""Packs: many small bodies written as one segment by group commit.

There is no timer. While a pack is being written and committed, complete bodies wait; when it ends, all that wait become
the next pack: one segment, durable on its nodes, then one row that brings the pack to life and each body's own
transaction, submitted together so that they share a durable commit. A body's transaction requires the pack's row, so
a body never points into a pack that the catalog does not know.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from catalog.epochs import Epochs
from catalog.errors import IN_DOUBT
from catalog.interface import Catalog, Transaction
from core.buffers import Buffer, unset
from engine.bodies.placed import WrittenSegment
from engine.bodies.upload import WriteTools
from engine.classes import StorageClass
from engine.errors import StorageFull, Unavailable
from engine.layout_data import PACK, SEGMENT, SHORT
from engine.records_data import PACK_ROW, SEGMENT_ROW, PackRow
from erasure.codec import Codec
from erasure.scheme import MAX_SEGMENT, Scheme
from erasure.stripe import Stripe, code_stripe

#: Sealed bytes that one group commit takes at most; the rest waits for the next.
_GROUP_LIMIT = 32 << 20
#: Sealed bytes that are coded on the event loop and handed to the nodes whole: 0.1 ms, less than a thread's way.
_AT_ONCE = 512 << 10
_ATTEMPTS = 3


@dataclass(slots=True)
class PackTicket:
    """The place of one commit's bodies in a pack that is durable on nodes. `born` ends when the pack's row is
    committed; `slices` is body id → (offset, length)."""

    pack: bytes
    born: asyncio.Task[None]
    slices: dict[bytes, tuple[int, int]]
    group: _Group

    def finish(self) -> None:
        """The bodies' own commit ended, one way or the other."""
        self.group.pending.discard(id(self))
        self.group.settle()


@dataclass(slots=True)
class _Group:
    """The commits that share a pack."""

    pack: bytes
    flight: set[bytes]
    pending: set[int] = field(default_factory=set)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def settle(self) -> None:
        if not self.pending:
            self.flight.discard(self.pack)
            self.ended.set()


@dataclass(slots=True)
class _Waiting:
    bodies: list[tuple[bytes, Buffer]]
    size: int
    future: asyncio.Future[PackTicket] = field(repr=False)


class Packer:
    """Packs the small bodies of one storage class.

    `lost` is told of slices whose body will never be committed: (pack id, body id, sealed length).
    """

    def __init__(
        self,
        tools: WriteTools,
        storage_class: StorageClass,
        catalog: Catalog,
        epochs: Epochs,
        lost: Callable[[bytes, bytes, int], None],
        *,
        lanes: int = 1,
    ) -> None:
        self._tools, self._class, self._catalog, self._epochs = tools, storage_class, catalog, epochs
        self._lost = lost
        self._lanes = lanes
        self._waiting: deque[_Waiting] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = 0
        #: Packs whose bodies are being committed.
        self.in_flight: set[bytes] = set()

    async def place(self, bodies: list[tuple[bytes, Buffer]]) -> PackTicket:
        """Wait for the pack of one commit's bodies (id, sealed bytes) to be durable. The caller commits, then calls
        `finish` on the ticket, whatever happens. Raises Unavailable, StorageFull."""
        future: asyncio.Future[PackTicket] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(bodies, sum(len(sealed) for _, sealed in bodies), future))
        if self._running < self._lanes:
            self._running += 1
            # In a context of its own: it serves others, too, and must not stand under what this caller stands under.
            task = asyncio.create_task(self._run(), name="packer", context=contextvars.Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._give_up(future.result())  # the ticket came in the very moment of the cancellation
            raise

    def _give_up(self, ticket: PackTicket) -> None:
        self._lose(ticket)
        ticket.finish()

    def _lose(self, ticket: PackTicket) -> None:
        for body_id, (_, length) in ticket.slices.items():
            self._lost(ticket.pack, body_id, length)

    async def close(self) -> None:
        """Wait for packs under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        try:
            await self._serve()
        finally:
            self._running -= 1  # in the same step as the last look at the queue: nobody waits unserved

    async def _serve(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # bodies that complete in this same turn of the loop come along
            batch: list[_Waiting] = []
            size = 0
            while self._waiting and (not batch or size + self._waiting[0].size <= _GROUP_LIMIT):
                entry = self._waiting.popleft()
                if not entry.future.done():
                    batch.append(entry)
                    size += entry.size
            if batch:
                await self._commit(batch)

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        bodies = [body for entry in batch for body in entry.bodies]
        try:
            segment = await write_pack(self._tools, self._class, [sealed for _, sealed in bodies])
        except BaseException as error:
            for entry in batch:
                if not entry.future.done():
                    entry.future.set_exception(error if isinstance(error, Exception) else Unavailable("stopped"))
            if not isinstance(error, Exception):
                raise
            return
        row = PackRow(
            bodies=b"".join(body_id for body_id, _ in bodies),
            lengths=tuple(len(sealed) for _, sealed in bodies),
            epoch=self._epochs.epoch,
        )
        self.in_flight.add(segment.id)
        born = asyncio.create_task(self._bear(segment, row), name="pack row")
        group = _Group(segment.id, self.in_flight)
        offset = 0
        for entry in batch:
            slices: dict[bytes, tuple[int, int]] = {}
            for body_id, sealed in entry.bodies:
                slices[body_id] = (offset, len(sealed))
                offset += len(sealed)
            ticket = PackTicket(segment.id, born, slices, group)
            if entry.future.done():
                self._lose(ticket)
            else:
                group.pending.add(id(ticket))
                entry.future.set_result(ticket)
        group.settle()
        await asyncio.gather(born, return_exceptions=True)
        await group.ended.wait()

    async def _bear(self, segment: WrittenSegment, row: PackRow) -> None:
        async def put(txn: Transaction) -> None:
            await self._epochs.guard(txn)
            put_pack(txn, segment, row)

        try:
            await self._catalog.transact(put)
        except IN_DOUBT:
            raise
        except Exception:
            self._tools.drop(segment.row)
            raise
        self._tools.counters.packs_written += 1


def put_pack(txn: Transaction, segment: WrittenSegment, row: PackRow) -> None:
    """The rows that bring a pack to life."""
    txn.put(SEGMENT + segment.id, SEGMENT_ROW.encode(segment.row))
    txn.put(PACK + segment.id, PACK_ROW.encode(row))
    if segment.needs_care:
        txn.put(SHORT + segment.id, b"")


async def write_pack(
    tools: WriteTools, storage_class: StorageClass, bodies: Sequence[Buffer], *, segment_id: bytes = b""
) -> WrittenSegment:
    """Write sealed bodies one after the other as one segment, under a fresh id unless it has one. Nodes that fail are
    left out of the next attempt: the bytes are still in memory. Raises Unavailable, StorageFull."""
    total = sum(len(body) for body in bodies)
    if total > MAX_SEGMENT:
        raise ValueError(f"{total} bytes in one pack")
    exclude: tuple[bytes, ...] = ()
    refusal: Unavailable | StorageFull | None = None
    for _ in range(_ATTEMPTS):
        try:
            writer = tools.writer(storage_class, total, exclude=exclude, segment_id=segment_id)
        except (Unavailable, StorageFull) as error:
            raise refusal or error from None
        try:
            stripes = code_pack(tools.codec, writer.scheme, bodies)
            if total <= _AT_ONCE:
                row = await writer.store(list(stripes))
            else:
                loop = asyncio.get_running_loop()
                for _ in range(-(-total // writer.scheme.stripe_size)):
                    await writer.write(await loop.run_in_executor(tools.pool, next, stripes))
                row = await writer.finish()
        except (Unavailable, StorageFull) as error:
            await writer.abandon()
            exclude = (*exclude, *writer.failed_nodes())
            refusal = error
        except BaseException:
            await writer.abandon()
            raise
        else:
            return tools.written(storage_class, writer.id, row)
    assert refusal is not None
    raise refusal


def code_pack(codec: Codec, scheme: Scheme, bodies: Sequence[Buffer]) -> Iterator[Stripe]:
    """The stripes of the concatenation of `bodies`, each coded when asked for."""
    left = sum(len(body) for body in bodies)
    parts = iter(bodies)
    part = memoryview(b"")
    while left:
        length = min(left, scheme.stripe_size)
        row = memoryview(unset(scheme.n * -(-length // scheme.k)))
        place = 0
        while place < length:
            while not part.nbytes:
                part = memoryview(next(parts))
            count = min(part.nbytes, length - place)
            row[place : place + count] = part[:count]
            part = part[count:]
            place += count
        left -= length
        yield code_stripe(codec, scheme, row, length)
