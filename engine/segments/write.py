"""Writing one segment: its pieces stream to their nodes side by side, and enough of them must end durable."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from backends.errors import BackendError, NoSpace
from core.buffers import Buffer
from core.ids import new_id
from engine.classes import StorageClass, survives
from engine.counters import EngineCounters
from engine.errors import StorageFull, Unavailable
from engine.ports import Node, Placer
from engine.records_data import PieceRow, SegmentRow
from engine.segments.trash import Trash
from erasure.footer import CODE
from erasure.piece import SegmentBuilder, Trailer
from erasure.scheme import Scheme
from erasure.stripe import Stripe

PutWhole = Callable[[str, Sequence[Buffer], bytes], "asyncio.Future[bytes] | None"]


@dataclass(frozen=True, slots=True)
class WriteLimits:
    """Bounds of a segment's upload. Seconds."""

    queue: int = 3  # stripes waiting for one node
    slow: float = 5.0  # a node that holds the others up for this long is left behind
    stuck: float = 60.0  # nobody moves for this long: give up


def piece_name(epoch: int, segment_id: bytes) -> str:
    """A fresh piece name of the form of `core.ids.new_piece_name` whose random half starts with the segment's id, so
    that a listed piece leads to the segment row that would reference it."""
    return f"{epoch:016x}-{segment_id[:8].hex()}{secrets.token_hex(8)}"


class PieceStream:
    """A bounded queue of one node's shards, as the `PieceSource` that its backend reads."""

    def __init__(self, depth: int, moved: asyncio.Event) -> None:
        self._depth = depth
        self._moved = moved
        self._items: deque[Buffer] = deque()
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        self._digest = b""

    @property
    def full(self) -> bool:
        return len(self._items) >= self._depth

    def push(self, data: Buffer) -> None:
        self._items.append(data)
        self._wake()

    def end(self, trailer: Trailer) -> None:
        self._digest = trailer.digest
        self._items.append(trailer.footer)
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self

    async def __anext__(self) -> Buffer:
        while not self._items:
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._moved.set()
        return self._items.popleft()

    def digest(self) -> bytes:
        return self._digest


@dataclass(slots=True)
class _Piece:
    index: int
    node: Node
    name: str
    stream: PieceStream
    put: asyncio.Future[bytes] | None = None  # a task, or what `WholePieces.put_whole` gave
    left: bool = False  # behind, for being slow


@dataclass(frozen=True, slots=True)
class Target:
    """Where a segment will go: the chosen scheme, one node for each piece."""

    storage_class: StorageClass
    scheme: Scheme
    nodes: tuple[Node, ...]

    @property
    def narrow(self) -> bool:
        return self.scheme != self.storage_class.full


def choose_target(
    placer: Placer, storage_class: StorageClass, sealed_length: int, exclude: Sequence[bytes] = ()
) -> Target:
    """The widest scheme of the ladder that enough nodes can take now, in domains spread widely enough to be
    acknowledged. `sealed_length` is of the whole segment, or the most it may become.

    Raises Unavailable, or StorageFull when it is space alone that lacks.
    """
    for scheme in storage_class.ladder:
        size = scheme.shape(min(sealed_length, scheme.segment_size)).piece_size
        nodes = placer.choose(scheme.n, size=size, exclude=exclude)
        domains = Counter(node.domain for node in nodes)
        if len(nodes) == scheme.n and survives(domains, scheme, storage_class.margin):
            return Target(storage_class, scheme, tuple(nodes))
    up = Counter(node.domain for node in placer.nodes() if placer.is_up(node.id) and node.id not in exclude)
    fitting = [scheme for scheme in storage_class.ladder if up.total() >= scheme.n]
    if any(survives(_spread(up, scheme.n), scheme, storage_class.margin) for scheme in fitting):
        raise StorageFull("too few nodes have space for a write")
    needed = storage_class.ladder[-1].n
    raise Unavailable(f"{up.total()} nodes in {len(up)} domains are up, too few to write {needed} pieces safely")


def _spread(nodes: Counter[str], count: int) -> Counter[str]:
    """`count` pieces, one for each node, dealt to the domains in turn; `nodes` counts those of each domain, together at
    least `count`."""
    dealt: Counter[str] = Counter()
    while dealt.total() < count:
        free = [domain for domain in nodes if dealt[domain] < nodes[domain]]
        dealt[min(free, key=dealt.__getitem__)] += 1
    return dealt


class SegmentWriter:
    """Streams stripes of one segment to its nodes. Ends in `finish` or `abandon`. For a segment that is in memory
    whole, `store` is all of it.

    A node that fails, or that holds the others up past the bound, is left behind as long as what remains can still be
    acknowledged.
    """

    def __init__(
        self,
        target: Target,
        *,
        epoch: int,
        placer: Placer,
        counters: EngineCounters,
        trash: Trash,
        limits: WriteLimits,
        segment_id: bytes = b"",
        shard_size: int = 0,
    ) -> None:
        self.id = segment_id or new_id()
        self.scheme = target.scheme
        self._target = target
        self._builder = SegmentBuilder(target.scheme, self.id, shard_size)
        self._placer, self._counters, self._trash, self._limits = placer, counters, trash, limits
        self._moved = asyncio.Event()
        self._abandoned = False
        self._refusals: list[BaseException] = []
        self._failed_nodes: list[bytes] = []
        turn = self.id[0] % len(target.nodes)  # so that data and parity pieces spread evenly over the nodes
        self._pieces = [
            _Piece(index, node, piece_name(epoch, self.id), PieceStream(limits.queue, self._moved))
            for index, node in enumerate(target.nodes[turn:] + target.nodes[:turn])
        ]
        self._begun = False

    def _begin(self) -> None:
        """Let the nodes read the streams."""
        self._begun = True
        for piece in self._pieces:
            self._stream(piece)

    def _stream(self, piece: _Piece) -> None:
        self._follow(piece, asyncio.create_task(_put(piece), name=f"piece {piece.name}"))

    def _follow(self, piece: _Piece, put: asyncio.Future[bytes]) -> None:
        piece.put = put
        put.add_done_callback(partial(self._ended, piece))

    def _ended(self, piece: _Piece, put: asyncio.Future[bytes]) -> None:
        """After a piece's put, before anybody who waits for it goes on."""
        self._moved.set()
        error = None if put.cancelled() else put.exception()
        if isinstance(error, BackendError | OSError):  # TimeoutError is an OSError
            self._refusals.append(error)
            self._failed_nodes.append(piece.node.id)
            self._counters.pieces_failed += 1
            self._placer.observe(piece.node.id, ok=False, seconds=0.0, error=error)
        if put.cancelled() or error is not None:
            # It may be stored all the same: the answer may be what got lost, or nobody waited for it.
            self._trash.add(piece.node.id, piece.name.encode())

    def failed_nodes(self) -> list[bytes]:
        """Nodes that failed or were left behind."""
        return list(self._failed_nodes)

    def _live(self) -> list[_Piece]:
        """Pieces under way or done."""
        return [piece for piece in self._pieces if not _failed(piece)]

    def _acknowledgeable(self, pieces: Sequence[_Piece]) -> bool:
        return survives(Counter(piece.node.domain for piece in pieces), self.scheme, self._target.storage_class.margin)

    def _require(self, pieces: Sequence[_Piece]) -> None:
        if self._acknowledgeable(pieces):
            return
        text = f"{len(pieces)} of {self.scheme.n} pieces can be written"
        if self._refusals and all(isinstance(error, NoSpace) for error in self._refusals):
            raise StorageFull(text) from self._refusals[0]
        raise Unavailable(text) from (self._refusals[0] if self._refusals else None)

    @property
    def stripes(self) -> int:
        """Stripes taken so far."""
        return self._builder.stripes

    async def write(self, stripe: Stripe) -> None:
        """Hand one stripe to the nodes; waits while their queues are full. Raises Unavailable, StorageFull."""
        if not self._begun:
            self._begin()
        waited = 0.0
        loop = asyncio.get_running_loop()
        while full := [piece for piece in self._live() if piece.stream.full]:
            self._moved.clear()
            began = loop.time()
            try:
                async with asyncio.timeout(self._limits.slow - waited if waited < self._limits.slow else 1.0):
                    await self._moved.wait()
            except TimeoutError:
                waited += loop.time() - began
                self._leave_behind(full, stuck=waited >= self._limits.stuck)
            else:
                waited += loop.time() - began
        self._require(self._live())
        for piece in self._live():
            piece.stream.push(stripe.shards[piece.index])
        self._builder.add(stripe)

    def _leave_behind(self, slow: Sequence[_Piece], *, stuck: bool) -> None:
        """Cancel slow pieces if the rest suffices; all of them when nothing moves at all."""
        rest = [piece for piece in self._live() if piece not in slow]
        if not (stuck or self._acknowledgeable(rest)):
            return
        for piece in slow:
            if piece.put is not None and not piece.put.done():
                piece.left = True
                piece.put.cancel()
                self._counters.pieces_slow += 1
                self._placer.observe(piece.node.id, ok=False, seconds=self._limits.slow, error=TimeoutError())
                self._refusals.append(TimeoutError(f"node {piece.node.name} is too slow"))
                self._failed_nodes.append(piece.node.id)

    async def finish(self) -> SegmentRow:
        """End the pieces, wait until they are durable, and return the row to commit.

        Waits for all, but no longer than the bound for stragglers once enough are durable. Raises Unavailable,
        StorageFull; then everything was abandoned.
        """
        try:
            trailers = self._builder.finish()
            for piece in self._live():
                piece.stream.end(trailers[piece.index])
            return await self._conclude(trailers)
        except BaseException:
            await self.abandon()
            raise

    async def store(self, stripes: Sequence[Stripe]) -> SegmentRow:
        """Write all stripes of a segment, instead of `write` and `finish`, with the latter's bounds and errors.

        Nodes that can take a whole piece at once are given it so, the others as a stream.
        """
        self._begun = True
        try:
            for stripe in stripes:
                self._builder.add(stripe)
            trailers = self._builder.finish()
            for piece in self._pieces:
                trailer = trailers[piece.index]
                shards = [stripe.shards[piece.index] for stripe in stripes]
                # Not isinstance(_, WholePieces): of a protocol that costs more than the call.
                offered: PutWhole | None = getattr(piece.node.backend, "put_whole", None)
                put = offered(piece.name, [*shards, trailer.footer], trailer.digest) if offered is not None else None
                if put is not None:
                    self._follow(piece, put)
                    continue
                for shard in shards:
                    piece.stream.push(shard)
                piece.stream.end(trailer)
                self._stream(piece)
            return await self._conclude(trailers)
        except BaseException:
            await self.abandon()
            raise

    async def _conclude(self, trailers: Sequence[Trailer]) -> SegmentRow:
        """Wait for the puts; the row of a segment that can be acknowledged."""
        await self._settle()
        done = [piece for piece in self._pieces if _succeeded(piece)]
        self._require(done)
        rows = []
        for piece, trailer in zip(self._pieces, trailers, strict=True):
            if piece.put is not None and _succeeded(piece):
                rows.append(PieceRow(piece.node.id, piece.put.result(), trailer.digest))
            else:
                rows.append(PieceRow(b"", b"", trailer.digest))
        self._counters.segments_written += 1
        self._counters.segments_short += len(done) < self.scheme.n
        self._counters.segments_narrow += self._target.narrow
        builder = self._builder
        return SegmentRow(
            code=CODE,
            k=self.scheme.k,
            m=self.scheme.m,
            shard_size=builder.shard_size,
            sealed_length=builder.sealed_length,
            storage_class=self._target.storage_class.name,
            pieces=tuple(rows),
        )

    async def _settle(self) -> None:
        """Wait for the puts: all of them, or enough and then the stragglers' bound."""
        loop = asyncio.get_running_loop()
        hard = loop.time() + self._limits.stuck
        soft = 0.0
        while running := {piece.put for piece in self._pieces if piece.put is not None and not piece.put.done()}:
            if not soft and self._acknowledgeable([piece for piece in self._pieces if _succeeded(piece)]):
                soft = loop.time() + self._limits.slow
            limit = min(soft or hard, hard) - loop.time()
            if limit <= 0:
                self._leave_behind([p for p in self._pieces if p.put is not None and not p.put.done()], stuck=True)
                await asyncio.wait(running)
                return
            await asyncio.wait(running, timeout=limit, return_when=asyncio.FIRST_COMPLETED)

    async def abandon(self) -> None:
        """Drop everything: stop what is under way, throw away what is durable already. Idempotent."""
        if self._abandoned:
            return
        self._abandoned = True
        puts = [piece.put for piece in self._pieces if piece.put is not None]
        for put in puts:
            put.cancel()
        await asyncio.gather(*puts, return_exceptions=True)
        for piece in self._pieces:
            if piece.put is not None and _succeeded(piece):
                self._trash.add(piece.node.id, piece.put.result())


async def _put(piece: _Piece) -> bytes:
    return await piece.node.backend.put(piece.name, piece.stream)


def _failed(piece: _Piece) -> bool:
    put = piece.put
    return piece.left or (put is not None and put.done() and not _succeeded(piece))


def _succeeded(piece: _Piece) -> bool:
    put = piece.put
    return put is not None and put.done() and not put.cancelled() and put.exception() is None
