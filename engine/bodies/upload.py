"""A large body on its way in: stripes from the source are digested, sealed, coded and sent, a few at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Executor
from dataclasses import dataclass

from core.buffers import unset
from engine.bodies.intake import BufferPool, DigestLine, Intake
from engine.bodies.placed import WrittenSegment
from engine.classes import StorageClass
from engine.counters import EngineCounters
from engine.ports import Placer
from engine.records_data import SegmentRow
from engine.segments.trash import Trash
from engine.segments.write import SegmentWriter, WriteLimits, choose_target
from erasure.codec import Codec
from erasure.frames import sealed_length
from erasure.scheme import Scheme
from erasure.seal import BodySealer
from erasure.stripe import Stripe, seal_stripe

#: Stripes of one upload that are being coded or wait to be sent.
_DEPTH = 3
#: Segments of one upload whose nodes are syncing while the next one streams.
_FINISHING = 2


@dataclass(frozen=True, slots=True)
class WriteTools:
    """What every writer of this process shares."""

    placer: Placer
    codec: Codec
    pool: Executor
    counters: EngineCounters
    trash: Trash
    limits: WriteLimits
    epoch: int

    def writer(
        self,
        storage_class: StorageClass,
        sealed: int,
        *,
        exclude: tuple[bytes, ...] = (),
        segment_id: bytes = b"",
        shard_size: int = 0,
    ) -> SegmentWriter:
        """Begin a segment of at most `sealed` bytes. Raises Unavailable, StorageFull."""
        return SegmentWriter(
            choose_target(self.placer, storage_class, sealed, exclude),
            epoch=self.epoch,
            placer=self.placer,
            counters=self.counters,
            trash=self.trash,
            limits=self.limits,
            segment_id=segment_id,
            shard_size=shard_size,
        )

    def written(self, storage_class: StorageClass, segment_id: bytes, row: SegmentRow) -> WrittenSegment:
        short = not all(piece.node for piece in row.pieces)
        return WrittenSegment(segment_id, row, short or Scheme(row.k, row.m) != storage_class.full)

    def drop(self, row: SegmentRow) -> None:
        """Throw away the pieces of a segment that no transaction named."""
        for piece in row.pieces:
            if piece.node:
                self.trash.add(piece.node, piece.locator)


@dataclass(slots=True)
class _Coded:
    writer: SegmentWriter
    stripe: asyncio.Future[Stripe]
    digested: asyncio.Future[None]
    buffer: bytearray
    ends: bool  # the last stripe of its segment


class Upload:
    """Streams one body into segments. Used once."""

    def __init__(
        self,
        tools: WriteTools,
        buffers: BufferPool,
        storage_class: StorageClass,
        sealer: BodySealer,
        intake: Intake,
        digests: DigestLine,
        size_hint: int | None,
    ) -> None:
        self._tools, self._buffers, self._class = tools, buffers, storage_class
        self._sealer, self._intake, self._digests = sealer, intake, digests
        self._left = size_hint
        self._length = 0
        self._frame = 0
        self._writer: SegmentWriter | None = None
        self._submitted = 0
        self._pending: deque[_Coded] = deque()
        self._writers: list[SegmentWriter] = []  # begun, not finishing yet
        self._finishing: deque[tuple[bytes, asyncio.Task[SegmentRow]]] = deque()
        self._done: list[WrittenSegment] = []

    async def run(self) -> tuple[int, list[WrittenSegment]]:
        """The body's length and its durable segments. Whatever is raised, nothing stays behind."""
        try:
            last = False
            while not last:
                writer = self._current()
                size = writer.scheme.stripe_plain
                buffer = self._buffers.take(size)
                count = await self._intake.fill(buffer, size)
                last = not await self._intake.more()
                self._submit(writer, buffer, count, last=last)
                while len(self._pending) > _DEPTH:
                    await self._drain()
            while self._pending:
                await self._drain()
            while self._finishing:
                await self._collect()
        except BaseException:
            # To its end even if the task is cancelled again: nodes and threads must not be left hanging.
            await asyncio.shield(asyncio.create_task(self._abort(), name="abort upload"))
            raise
        return self._length, self._done

    def _current(self) -> SegmentWriter:
        if self._writer is None:
            scheme = self._class.full
            expected = scheme.segment_size if self._left is None else sealed_length(max(1, self._left - self._length))
            self._writer = self._tools.writer(self._class, expected)
            self._writers.append(self._writer)
            self._submitted = 0
        return self._writer

    def _submit(self, writer: SegmentWriter, buffer: bytearray, count: int, *, last: bool) -> None:
        plain = memoryview(buffer)[:count]
        scheme = writer.scheme
        stripe = asyncio.get_running_loop().run_in_executor(
            self._tools.pool, _seal, self._tools.codec, scheme, self._sealer, self._frame, plain, last
        )
        self._submitted += 1
        self._length += count
        self._frame += scheme.stripe_frames
        ends = last or self._submitted == scheme.segment_stripes
        self._pending.append(_Coded(writer, stripe, self._digests.feed(plain), buffer, ends))
        if ends:
            self._writer = None

    async def _drain(self) -> None:
        """Send the oldest coded stripe."""
        coded = self._pending[0]
        stripe = await coded.stripe
        await coded.writer.write(stripe)
        await coded.digested
        self._pending.popleft()
        self._buffers.give(coded.buffer)
        if coded.ends:
            self._writers.remove(coded.writer)
            task = asyncio.create_task(coded.writer.finish(), name="finish segment")
            self._finishing.append((coded.writer.id, task))
            while len(self._finishing) > _FINISHING:
                await self._collect()

    async def _collect(self) -> None:
        segment_id, task = self._finishing[0]
        row = await asyncio.shield(task)
        self._finishing.popleft()
        self._done.append(self._tools.written(self._class, segment_id, row))

    async def _abort(self) -> None:
        """Stop threads and nodes, throw away what is durable."""
        waits = [coded.stripe for coded in self._pending] + [coded.digested for coded in self._pending]
        await asyncio.gather(*waits, return_exceptions=True)
        tasks = [task for _, task in self._finishing]
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, SegmentRow):
                self._tools.drop(outcome)
        for writer in self._writers:
            await writer.abandon()
        for written in self._done:
            self._tools.drop(written.row)


def _seal(codec: Codec, scheme: Scheme, sealer: BodySealer, frame: int, plain: memoryview, last: bool) -> Stripe:
    shard = -(-sealed_length(plain.nbytes) // scheme.k)
    # Nodes keep views of the row until they have written it, so every stripe gets a fresh one.
    row = memoryview(unset(scheme.n * shard))
    return seal_stripe(codec, scheme, sealer, frame, plain, row, last=last)
