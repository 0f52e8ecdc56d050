"""Plaintext of a body: locate, read sealed bytes, open frames; recover with proof when a frame does not open."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator
from typing import NamedTuple

from core.buffers import Buffer, unset
from engine.bodies.interface import BodyRef
from engine.bodies.locations import Locations
from engine.errors import Damaged, Unavailable
from engine.records_data import BodyRow
from engine.segments.fetch import Moved, Read, ReadTools
from engine.segments.proof import VerifiedSegment
from engine.segments.read import SegmentReader
from engine.segments.registry import Segment
from erasure.errors import DamagedFrame
from erasure.frames import FRAME_PLAIN, FRAME_SEALED, TAG, frames_of
from erasure.seal import BodyOpener, open_frame

#: Stripes that one window of a long read covers: fewer calls to nodes, more memory.
_WINDOW_STRIPES = 2
#: Windows read ahead of the consumer.
_AHEAD = 2
#: Opening less than this runs on the event loop.
_INLINE_OPEN = 128 << 10
_CHUNK = 1 << 20
_ATTEMPTS = 3
#: Combinations of doubtful stripes that recovery tries for one run.
_MAX_TRIES = 256


class Run(NamedTuple):
    """Sealed bytes [offset, offset + length) of one segment."""

    segment_id: bytes
    offset: int
    length: int


def runs_of(row: BodyRow, offset: int, length: int) -> list[Run]:
    """Where sealed bytes [offset, offset + length) of a body that is not inline lie."""
    if row.slice is not None:
        pack, start, _ = row.slice
        return [Run(pack, start + offset, length)]
    runs: list[Run] = []
    begin = 0
    for segment_id, size in row.segments:
        low, high = max(offset, begin), min(offset + length, begin + size)
        if low < high:
            runs.append(Run(segment_id, low - begin, high - low))
        begin += size
    if sum(run.length for run in runs) != length:
        raise Damaged("a body row covers less than the body")
    return runs


class Download:
    """Opens bodies. One for the process."""

    def __init__(self, tools: ReadTools, reader: SegmentReader, locations: Locations) -> None:
        self._tools, self._reader, self._locations = tools, reader, locations

    async def fetch(self, body_id: bytes, body_length: int, body_key: bytes, offset: int, length: int) -> bytes:
        """Up to 1 MiB of plaintext as one buffer."""
        opener = BodyOpener(body_key, body_id, body_length)
        frames = frames_of(offset, length, body_length)
        if not frames.count:
            return b""
        out = await self._open(opener, frames.first, frames.sealed_offset, frames.sealed_length, frames.plain_length)
        self._tools.counters.bytes_read += length
        return bytes(memoryview(out)[frames.skip : frames.skip + length])

    def fetch_now(self, ref: BodyRef, body_key: bytes, offset: int, length: int) -> bytes | None:
        """As `fetch`, without waiting, for what is in memory and opens at once; else None, and `fetch` tells."""
        body_id, body_length = ref.id, ref.length
        row = self._locations.cached(body_id)
        if row is None or row.sealed:
            return None
        # Most small reads lie in one frame of one shard, which needs little of what all others do.
        first = offset // FRAME_PLAIN
        begin = first * FRAME_PLAIN
        if row.slice is None or not 0 <= offset < offset + length <= min(begin + FRAME_PLAIN, body_length):
            return self._frames_now(row, ref, body_key, offset, length)
        tools = self._tools
        segment = tools.registry.cached(row.slice[0])
        if segment is None:
            return None
        sealed_length = min(FRAME_PLAIN, body_length - begin) + TAG
        span = segment.shape.span(row.slice[1] + first * FRAME_SEALED, sealed_length)
        if span is None:
            return self._frames_now(row, ref, body_key, offset, length)
        sealed = tools.fetch_now(segment, span)
        if sealed is None:
            return None
        try:
            plain = open_frame(body_key, body_id, body_length, first, sealed)
        except DamagedFrame:
            return None  # `fetch` finds it again, counts it and recovers
        tools.counters.bytes_read += length
        return plain if len(plain) == length else plain[offset - begin : offset - begin + length]

    def _frames_now(self, row: BodyRow, ref: BodyRef, body_key: bytes, offset: int, length: int) -> bytes | None:
        """`fetch_now` for any frames in any shards."""
        if offset < 0 or length < 0 or offset + length > ref.length:
            return None
        frames = frames_of(offset, length, ref.length)
        if not frames.count or frames.plain_length > _INLINE_OPEN:
            return None
        parts: list[Buffer] = []
        for run in runs_of(row, frames.sealed_offset, frames.sealed_length):
            segment = self._tools.registry.cached(run.segment_id)
            found = self._reader.sealed_now(segment, run.offset, run.length) if segment is not None else None
            if found is None:
                return None
            parts += found
        plain = unset(frames.plain_length)
        try:
            BodyOpener(body_key, ref.id, ref.length).open_scattered(frames.first, parts, plain)
        except DamagedFrame:
            return None
        self._tools.counters.bytes_read += length
        return bytes(memoryview(plain)[frames.skip : frames.skip + length])

    async def _open(self, opener: BodyOpener, first: int, offset: int, length: int, plain: int) -> bytearray:
        """Open the frames at sealed [offset, offset + length) of a body. Looks again where the body moved meanwhile."""
        body_id = opener.body_id
        row = self._locations.cached(body_id) or await self._locations.get(body_id)
        fresh = False
        for attempt in range(_ATTEMPTS):
            if row.sealed:
                return self._open_whole(opener, memoryview(row.sealed), first, offset, length, plain)
            runs = runs_of(row, offset, length)
            if not fresh and (out := await self._open_soon(opener, first, runs, plain)) is not None:
                return out
            segments: list[Segment] = []
            try:
                segments = [await self._segment(run.segment_id, fresh=fresh) for run in runs]
                return await self._open_runs(opener, first, runs, segments, plain)
            except (Unavailable, Damaged) as error:
                if isinstance(error, Moved) and (staged := await self._locations.staged(body_id, row)) is not None:
                    return self._open_whole(opener, staged, first, offset, length, plain)
                # Also damage may only be that of a piece which was made anew elsewhere.
                looks_again = isinstance(error, Moved) or (not fresh and await self._outdated(segments))
                if attempt == _ATTEMPTS - 1 or not looks_again:
                    self._tools.counters.damaged_reads += isinstance(error, Damaged)
                    raise
                fresh = True
                found = await self._locations.get(body_id, fresh=True)
                self._tools.counters.relocations += found != row
                row = found
        raise AssertionError("unreachable")

    async def _outdated(self, segments: list[Segment]) -> bool:
        """Whether the catalog knows other pieces of any of these by now."""
        for segment in segments:
            newer = await self._tools.registry.get(segment.id, fresh=True)
            if newer is None or newer.row != segment.row:
                return True
        return False

    async def _open_soon(self, opener: BodyOpener, first: int, runs: list[Run], plain: int) -> bytearray | None:
        """Runs whose bytes are in memory, read and opened in one job of a thread; None where that can't be."""
        if plain <= _INLINE_OPEN:
            return None
        reads: list[Read] = []
        for run in runs:
            segment = self._tools.registry.cached(run.segment_id)
            found = self._reader.sealed_soon(segment, run.offset, run.length) if segment is not None else None
            if found is None:
                return None
            reads += found
        return await asyncio.get_running_loop().run_in_executor(
            self._tools.pool, _read_and_open, opener, first, reads, plain
        )

    async def _segment(self, segment_id: bytes, *, fresh: bool) -> Segment:
        registry = self._tools.registry
        segment = None if fresh else registry.cached(segment_id)
        segment = segment or await registry.get(segment_id, fresh=fresh)
        if segment is None:
            raise Moved("the catalog has this segment no more")
        return segment

    def _open_whole(
        self, opener: BodyOpener, sealed: memoryview, first: int, offset: int, length: int, plain: int
    ) -> bytearray:
        """Of a body that is in the catalog, all its sealed bytes."""
        out = unset(plain)
        try:
            opener.open(first, sealed[offset : offset + length], out)
        except DamagedFrame as error:
            self._tools.counters.frame_failures += 1
            self._tools.counters.damaged_reads += 1
            raise Damaged(str(error)) from None
        return out

    async def _open_runs(
        self, opener: BodyOpener, first: int, runs: list[Run], segments: list[Segment], plain: int
    ) -> bytearray:
        parts: list[Buffer] = []
        for run, segment in zip(runs, segments, strict=True):
            parts += await self._reader.sealed(segment, run.offset, run.length)
        out = unset(plain)
        try:
            if plain <= _INLINE_OPEN:
                opener.open_scattered(first, parts, out)
            else:
                await asyncio.get_running_loop().run_in_executor(
                    self._tools.pool, opener.open_scattered, first, parts, out
                )
        except DamagedFrame:
            self._tools.counters.frame_failures += 1
            return await self._recover(opener, first, runs, segments, plain)
        return out

    async def _recover(
        self, opener: BodyOpener, first: int, runs: list[Run], segments: list[Segment], plain: int
    ) -> bytearray:
        """Read the same bytes with every shard proven; where too few can be proven, try what there is: only the right
        bytes open. Raises Damaged, Unavailable."""
        self._tools.counters.verified_reads += 1
        options: list[list[list[memoryview]]] = []  # for each stripe of each run: what its part of the run may be
        for run, segment in zip(runs, segments, strict=True):
            verified = VerifiedSegment(self._tools, segment)
            for stripe in segment.shape.stripes_of(run.offset, run.length):
                begin = stripe * segment.shape.stripe_size
                low = max(run.offset - begin, 0)
                high = min(run.offset + run.length - begin, segment.shape.stripe_length(stripe))
                found: list[list[memoryview]] = []
                try:
                    async for candidate in verified.candidates(stripe):
                        found.append(_cut(candidate, low, high))
                except (Unavailable, Damaged):
                    if not found:
                        raise
                options.append(found)
        out = unset(plain)
        loop = asyncio.get_running_loop()
        for choice in itertools.islice(itertools.product(*options), _MAX_TRIES):
            parts = [part for stripe in choice for part in stripe]
            try:
                await loop.run_in_executor(self._tools.pool, opener.open_scattered, first, parts, out)
            except DamagedFrame:
                continue
            return out
        raise Damaged("no combination of shards gives the bytes that were written")

    async def stream(
        self, body_id: bytes, body_length: int, body_key: bytes, offset: int, length: int
    ) -> AsyncGenerator[memoryview, None]:
        """Plaintext in chunks of at most 1 MiB, some windows ahead of the consumer."""
        opener = BodyOpener(body_key, body_id, body_length)
        frames = frames_of(offset, length, body_length)
        tasks: deque[asyncio.Task[bytearray]] = deque()
        plan = self._plan(opener, frames.sealed_offset, frames.sealed_length)
        left, skip = length, frames.skip
        try:
            async for start, size in plan:
                tasks.append(asyncio.create_task(self._window(opener, start, size)))
                if len(tasks) > _AHEAD:
                    for chunk in _chunks(await tasks.popleft(), skip, left):
                        left -= chunk.nbytes
                        yield chunk
                    skip = 0
            while tasks:
                for chunk in _chunks(await tasks.popleft(), skip, left):
                    left -= chunk.nbytes
                    yield chunk
                skip = 0
        finally:
            await plan.aclose()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tools.counters.bytes_read += length - left

    async def _window(self, opener: BodyOpener, offset: int, length: int) -> bytearray:
        plain = length - TAG * -(-length // FRAME_SEALED)
        return await self._open(opener, offset // FRAME_SEALED, offset, length, plain)

    async def _plan(self, opener: BodyOpener, offset: int, length: int) -> AsyncGenerator[tuple[int, int], None]:
        """Cut sealed [offset, offset + length) of a body into windows at stripe borders: (offset, length) each."""
        if not length:
            return
        row = await self._locations.get(opener.body_id)
        if row.sealed or row.slice is not None:
            yield offset, length
            return
        begin = 0
        for segment_id, size in row.segments:
            low, high = max(offset, begin), min(offset + length, begin + size)
            if low < high:
                segment = await self._segment(segment_id, fresh=False)
                step = segment.shape.stripe_size * _WINDOW_STRIPES
                while low < high:
                    end = min(high, begin + ((low - begin) // step + 1) * step)
                    yield low, end - low
                    low = end
            begin += size


def _read_and_open(opener: BodyOpener, first: int, reads: list[Read], plain: int) -> bytearray | None:
    parts: list[Buffer] = []
    for read in reads:
        part = read()
        if part is None:
            return None
        parts.append(part)
    out = unset(plain)
    try:
        opener.open_scattered(first, parts, out)
    except DamagedFrame:
        return None  # it is read again, counted and recovered
    return out


def _cut(parts: list[memoryview], low: int, high: int) -> list[memoryview]:
    """Bytes [low, high) of a concatenation."""
    found, begin = [], 0
    for part in parts:
        start, end = max(low - begin, 0), min(high - begin, part.nbytes)
        if start < end:
            found.append(part[start:end])
        begin += part.nbytes
    return found


def _chunks(buffer: bytearray, skip: int, limit: int) -> list[memoryview]:
    view = memoryview(buffer)[skip : skip + limit]
    return [view[place : place + _CHUNK] for place in range(0, view.nbytes, _CHUNK)]
