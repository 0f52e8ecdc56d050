"""One read of several ranges of a segment as a small race between its pieces: hedged when one is slow, decoded when one
is missing.

Decoding works on *columns*: bytes at the same place in any k pieces decode alone, and since a piece is its shards in
order, a run of several stripes is one range of columns.
"""

from __future__ import annotations

import asyncio

from backends.errors import BackendError, NotFound
from core.buffers import Buffer
from engine.errors import Unavailable
from engine.segments.fetch import Moved, ReadTools, stripes_of_columns
from engine.segments.registry import Segment

#: Decoding of less than this runs on the event loop.
_INLINE_DECODE = 32 << 10


class Window:
    """Several ranges, each of one data piece. Used once.

    `got` holds what arrived, `running` what is under way, both by (piece, start, end). It ends when every wanted range
    arrived, or when k pieces cover the columns of those that did not.
    """

    def __init__(
        self,
        tools: ReadTools,
        segment: Segment,
        ranges: dict[int, tuple[int, int]],
        leftovers: set[asyncio.Task[Buffer]],
        *,
        failed: int | None = None,
        not_found: bool = False,
        hedge: bool = False,
    ) -> None:
        """`failed`: a piece that was asked already, and `not_found` whether it was not there. `hedge`: the first one is
        slow."""
        self._tools, self._segment, self._ranges = tools, segment, ranges
        self._leftovers = leftovers
        low = min(start for start, _ in ranges.values())
        high = max(end for _, end in ranges.values())
        self._stripes = stripes_of_columns(segment, low, high)
        self._columns: tuple[int, int] | None = None
        self._got: dict[tuple[int, int, int], Buffer] = {}
        self._running: dict[asyncio.Task[Buffer], tuple[int, int, int]] = {}
        self._failed: set[int] = set() if failed is None else {failed}
        self._hedges: set[int] = set()  # pieces asked only because another was slow
        self._hedge_now = hedge
        self._not_found = not_found

    async def run(self) -> dict[int, Buffer]:
        """The bytes of each wanted range. Raises Unavailable, or Moved."""
        tools = self._tools
        try:
            for index, (start, end) in self._ranges.items():
                if index not in self._failed and tools.usable(self._segment, index, self._stripes):
                    self._start(index, start, end)
            if len(self._running) < len(self._ranges):
                self._cover(self._lost())
            elif self._hedge_now:
                self._hedge()
            while True:
                direct = self._direct()
                if len(direct) == len(self._ranges):
                    return direct
                if self._decodable(direct):
                    return await self._decode(direct)
                if self._running:
                    await self._step()
                else:
                    self._last_resort()
        finally:
            for task in self._running:
                task.cancel()
                self._leftovers.add(task)
                task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Buffer]) -> None:
        self._leftovers.discard(task)
        if not task.cancelled():
            task.exception()  # nobody waits for it any more

    def _start(self, index: int, start: int, end: int) -> None:
        task = asyncio.create_task(self._tools.fetch(self._segment, index, start, end))
        self._running[task] = (index, start, end)

    def _direct(self) -> dict[int, Buffer]:
        """The wanted ranges that arrived as they are."""
        found: dict[int, Buffer] = {}
        for index, (low, high) in self._ranges.items():
            data = self._cut(index, low, high)
            if data is not None:
                found[index] = data
        return found

    def _cut(self, index: int, low: int, high: int) -> Buffer | None:
        exact = self._got.get((index, low, high))
        if exact is not None:
            return exact
        for (piece, start, end), data in self._got.items():
            if piece == index and start <= low and high <= end:
                return memoryview(data)[low - start : high - start]
        return None

    def _lost(self) -> set[int]:
        """Wanted pieces whose bytes neither arrived nor are on their way."""
        there = {index for index, _, _ in (*self._got, *self._running.values())}
        return {index for index in self._ranges if index not in there}

    def _have(self) -> dict[int, Buffer]:
        """Pieces whose bytes cover the columns to decode, cut to them."""
        if self._columns is None:
            return {}
        cuts = {index: self._cut(index, *self._columns) for index, _, _ in self._got}
        return {index: data for index, data in cuts.items() if data is not None}

    def _widen(self, lost: set[int]) -> tuple[int, int]:
        spans = [self._ranges[index] for index in lost]
        if self._columns is not None:
            spans.append(self._columns)
        self._columns = (min(start for start, _ in spans), max(end for _, end in spans))
        return self._columns

    def _cover(self, lost: set[int], *, hedge: bool = False) -> None:
        """Ask as many further pieces as decoding the lost ones needs. Parity first, then data pieces again."""
        if not lost:
            return
        low, high = self._widen(lost)
        covering = set(self._have())
        for index, start, end in self._running.values():
            if start <= low and high <= end and index not in lost:
                covering.add(index)
        scheme = self._segment.scheme
        for index in (*range(scheme.k, scheme.n), *range(scheme.k)):
            if len(covering) >= scheme.k:
                return
            if index in covering or index in lost or index in self._failed:
                continue
            if self._tools.usable(self._segment, index, self._stripes):
                if hedge:
                    self._hedges.add(index)
                self._start(index, low, high)
                covering.add(index)

    def _last_resort(self) -> None:
        """Ask what was held back: suspect pieces, and pieces on nodes that count as down. Raises Unavailable."""
        low, high = self._widen({index for index in self._ranges if index not in self._direct()})
        have = self._have()
        for index in range(self._segment.scheme.n):
            if index not in self._failed and index not in have and self._segment.piece(index).node:
                self._start(index, low, high)
        if not self._running:
            text = f"{len(have)} pieces of a segment can be read, {self._segment.scheme.k} are needed"
            raise Moved(text) if self._not_found else Unavailable(text)

    async def _step(self) -> None:
        """Wait for the next answer, or until what is slow should be hedged."""
        tools = self._tools
        timeout = None
        if not self._hedges and tools.hedges.has():
            nodes = [self._segment.piece(index).node for index, _, _ in self._running.values()]
            timeout = max(map(tools.placer.expected_latency, nodes))
        done, _ = await asyncio.wait(self._running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            self._hedge()
        failed: set[int] = set()
        for task in done:
            place = self._running.pop(task)
            error = task.exception()
            if error is None:
                tools.hedges.earn()
                self._got[place] = task.result()
            elif isinstance(error, BackendError | OSError | TimeoutError):
                self._not_found |= isinstance(error, NotFound)
                failed.add(place[0])
            else:
                raise error
        if failed:
            self._failed |= failed
            self._cover(self._lost() | (failed & self._ranges.keys()))

    def _hedge(self) -> None:
        """Ask parity for what is slow, as far as the budget goes."""
        slow = sorted({index for index, _, _ in self._running.values() if index in self._ranges})
        granted = {index for index in slow if self._tools.hedges.spend()}
        if granted:
            self._tools.counters.hedges += len(granted)
            self._cover(granted, hedge=True)

    def _decodable(self, direct: dict[int, Buffer]) -> bool:
        if self._columns is None:
            return False
        low, high = self._columns
        missing = [span for index, span in self._ranges.items() if index not in direct]
        covered = all(low <= start and end <= high for start, end in missing)
        return covered and len(self._have()) >= self._segment.scheme.k

    async def _decode(self, direct: dict[int, Buffer]) -> dict[int, Buffer]:
        assert self._columns is not None
        tools, (low, high) = self._tools, self._columns
        chosen = dict(sorted(self._have().items())[: self._segment.scheme.k])
        want = {index: bytearray(high - low) for index in self._ranges if index not in direct and index not in chosen}
        overtaken = bool(self._hedges & chosen.keys())
        tools.counters.decodes += 1
        tools.counters.hedge_wins += overtaken
        tools.counters.degraded_reads += not overtaken
        if high - low <= _INLINE_DECODE:
            tools.codec.reconstruct(self._segment.scheme, chosen, want)
        else:
            await asyncio.get_running_loop().run_in_executor(
                tools.pool, tools.codec.reconstruct, self._segment.scheme, chosen, want
            )
        for index, data in want.items():
            start, end = self._ranges[index]
            direct[index] = memoryview(data)[start - low : end - low]
        return direct
