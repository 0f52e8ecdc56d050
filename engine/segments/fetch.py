"""Asking one node for bytes of its piece of a segment, and what readers share for it. What looks wrong is reported; a
read never writes and never blames.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from backends.errors import BackendError, NotFound, Unreadable
from core.buffers import Buffer
from engine.counters import EngineCounters
from engine.errors import Unavailable
from engine.ports import Placer
from engine.segments.registry import Segment, SegmentRegistry
from engine.segments.reports import Report, Reports
from erasure.codec import Codec
from erasure.scheme import Span

#: A hedge costs one token; every shard read earns a tenth of one.
HEDGE_SHARE = 0.1
HEDGE_BURST = 16.0
#: Seconds after which a node that took a read and is silent counts as failed: it is not asked to hedge for.
PATIENCE = 10.0

#: A read for another thread; None where it would have to wait. See `backends.interface.InstantReads.get_soon`.
Read = Callable[[], Buffer | None]


class Moved(Unavailable):
    """Not enough pieces, and some were not found: the segment may have been moved; ask the catalog again."""


class Truncated(BackendError):
    """A piece ended before the bytes that the format says it has."""


class HedgeBudget:
    """At most one extra read in ten."""

    def __init__(self) -> None:
        self._tokens = 1.0

    def earn(self) -> None:
        self._tokens = min(HEDGE_BURST, self._tokens + HEDGE_SHARE)

    def has(self) -> bool:
        return self._tokens >= 1.0

    def spend(self) -> bool:
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


@dataclass(slots=True)
class ReadTools:
    """What every reader of this process shares."""

    placer: Placer
    codec: Codec
    pool: Executor
    counters: EngineCounters
    registry: SegmentRegistry
    reports: Reports
    hedges: HedgeBudget
    patience: float = PATIENCE

    def usable(self, segment: Segment, index: int, stripes: range) -> bool:
        """Whether a piece is worth asking first: written, on a node that is up, not suspect there."""
        piece = segment.piece(index)
        return self.placer.is_up(piece.node) and not self.registry.is_suspect(segment.id, index, stripes)

    async def fetch(self, segment: Segment, index: int, start: int, end: int, *, report: bool = True) -> Buffer:
        """Bytes [start, end) of one piece, all of them. Raises BackendError, TimeoutError, OSError.

        What is missing is reported, unless the caller does that.
        """
        piece = segment.piece(index)
        node = self.placer.node(piece.node) if piece.node else None
        if node is None:
            raise NotFound("the piece has no known node")
        self.counters.shard_reads += 1
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.patience):
                data = await node.backend.get(piece.locator, start, end - start)
        except NotFound as error:
            self.counters.pieces_missing += 1
            self.placer.observe(node.id, ok=False, seconds=time.monotonic() - began, error=error)
            if report:
                self.report(segment, index, (0,))
            raise
        except (BackendError, OSError, TimeoutError) as error:
            self.placer.observe(node.id, ok=False, seconds=time.monotonic() - began, error=error)
            if report and isinstance(error, Unreadable):
                self.report(segment, index, stripes_of_columns(segment, start, end))
            raise
        except asyncio.CancelledError:
            # Overtaken: how long it took so far still says how slow the node is.
            self.placer.observe(node.id, ok=True, seconds=time.monotonic() - began)
            raise
        self.placer.observe(node.id, ok=True, seconds=time.monotonic() - began)
        if len(data) != end - start:
            self.counters.pieces_missing += 1
            if report:
                self.report(segment, index, stripes_of_columns(segment, start, end))
            raise Truncated("a piece ends early")
        return data

    def fetch_now(self, segment: Segment, span: Span) -> Buffer | None:
        """The bytes of a span where its node has them in memory and they are to be trusted at first; else None."""
        piece = segment.row.pieces[span.index]
        get_now: Callable[[bytes, int, int], Buffer | None] | None = self._offered(piece.node, segment, span, "get_now")
        data = None if get_now is None else get_now(piece.locator, span.piece_offset, span.length)
        if data is not None:
            self.counters.shard_reads += 1
        return data

    def fetch_soon(self, segment: Segment, span: Span) -> Read | None:
        """As `fetch_now`, to be done in another thread."""
        piece = segment.row.pieces[span.index]
        get_soon: Callable[[bytes, int, int], Read | None] | None = self._offered(piece.node, segment, span, "get_soon")
        read = None if get_soon is None else get_soon(piece.locator, span.piece_offset, span.length)
        if read is not None:
            self.counters.shard_reads += 1
        return read

    def _offered(self, node_id: bytes, segment: Segment, span: Span, name: str) -> Any:
        """A method of `InstantReads` of the span's node, if it has it and its piece is to be trusted at first."""
        node = self.placer.node_up(node_id)
        if node is None:
            return None
        registry = self.registry
        if registry.suspects and registry.is_suspect(segment.id, span.index, range(span.stripe, span.stripe + 1)):
            return None
        # Not isinstance(_, InstantReads): of a protocol that costs more than the read.
        return getattr(node.backend, name, None)

    def report(self, segment: Segment, index: int, stripes: Iterable[int]) -> None:
        for stripe in stripes:
            self.reports.add(Report(segment.id, index, stripe, segment.row.generation))


def stripes_of_columns(segment: Segment, start: int, end: int) -> range:
    """The stripes whose shards lie at [start, end) of a piece (none for the footer)."""
    shard = segment.row.shard_size
    return range(start // shard, min(segment.shape.stripes, -(-end // shard)))
