"""Reading sealed bytes of a segment: one node for a range in one shard, k side by side for a run."""

from __future__ import annotations

import asyncio

from backends.errors import BackendError, NotFound
from core.buffers import Buffer
from engine.segments.fetch import Read, ReadTools, stripes_of_columns
from engine.segments.registry import Segment
from engine.segments.window import Window


class SegmentReader:
    """Reads ranges of a segment's sealed bytes."""

    def __init__(self, tools: ReadTools) -> None:
        self._tools = tools
        self._leftovers: set[asyncio.Task[Buffer]] = set()

    async def close(self) -> None:
        """Wait for reads that were overtaken."""
        for task in self._leftovers:
            task.cancel()
        await asyncio.gather(*self._leftovers, return_exceptions=True)

    async def sealed(self, segment: Segment, offset: int, length: int) -> list[Buffer]:
        """Sealed bytes [offset, offset + length) as buffers in order. Raises Unavailable (Moved)."""
        tools = self._tools
        spans = segment.shape.spans(offset, length)
        if len(spans) == 1:
            span = spans[0]
            data = await self._single(segment, span.index, span.piece_offset, span.piece_offset + length)
            return [data]
        ranges: dict[int, tuple[int, int]] = {}
        for span in spans:
            start, _ = ranges.get(span.index, (span.piece_offset, 0))
            ranges[span.index] = (start, span.piece_offset + span.length)
        found = await Window(tools, segment, ranges, self._leftovers).run()
        parts: list[Buffer] = []
        for span in spans:
            place = span.piece_offset - ranges[span.index][0]
            data = found[span.index]
            parts.append(data if len(data) == span.length else memoryview(data)[place : place + span.length])
        return parts

    def sealed_now(self, segment: Segment, offset: int, length: int) -> list[Buffer] | None:
        """As `sealed`, for bytes that the nodes have in memory; None where they are to be waited for, or are not to be
        trusted at first."""
        parts: list[Buffer] = []
        for span in segment.shape.spans(offset, length):
            data = self._tools.fetch_now(segment, span)
            if data is None:
                return None
            parts.append(data)
        return parts

    def sealed_soon(self, segment: Segment, offset: int, length: int) -> list[Read] | None:
        """As `sealed_now`, to be done in another thread."""
        reads: list[Read] = []
        for span in segment.shape.spans(offset, length):
            read = self._tools.fetch_soon(segment, span)
            if read is None:
                return None
            reads.append(read)
        return reads

    async def _single(self, segment: Segment, index: int, start: int, end: int) -> Buffer:
        """A range inside one shard: one node, no task, unless it fails or is slow."""
        tools = self._tools
        stripes = stripes_of_columns(segment, start, end)
        if tools.usable(segment, index, stripes):
            try:
                if not tools.hedges.has():
                    data = await tools.fetch(segment, index, start, end)
                else:
                    async with asyncio.timeout(tools.placer.expected_latency(segment.piece(index).node)):
                        data = await tools.fetch(segment, index, start, end)
                tools.hedges.earn()
                return data
            except TimeoutError:
                # Ask again beside parity: whichever is first.
                return (await Window(tools, segment, {index: (start, end)}, self._leftovers, hedge=True).run())[index]
            except (BackendError, OSError) as error:
                gone = isinstance(error, NotFound)
                window = Window(tools, segment, {index: (start, end)}, self._leftovers, failed=index, not_found=gone)
                return (await window.run())[index]
        return (await Window(tools, segment, {index: (start, end)}, self._leftovers).run())[index]
