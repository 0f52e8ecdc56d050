"""What a backend did: calls, bytes, errors and how long they took."""

from __future__ import annotations

import asyncio
import bisect
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

from backends.decorators.retry import RestartableSource
from backends.decorators.wrapper import BackendWrapper
from backends.interface import Backend, Capacity, Entry, InstantReads, PieceSource, WholePieces
from core.buffers import Buffer

#: Upper bounds of the latency histogram's buckets, in seconds; one more bucket takes what is above the last.
BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(slots=True)
class OperationMeter:
    """Figures of one operation since the start; `seconds` and `buckets` count failed calls too."""

    calls: int = 0
    under_way: int = 0
    bytes: int = 0
    seconds: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)  # by the error's class name
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def copy(self) -> OperationMeter:
        return OperationMeter(
            self.calls, self.under_way, self.bytes, self.seconds, Counter(self.errors), list(self.buckets)
        )


class MeterBackend(BackendWrapper):
    """Counts what passes through. `snapshot` is the figures, by operation: put, get, delete, stat, list, capacity."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self._instant = inner if isinstance(inner, InstantReads) else None
        self._whole = inner if isinstance(inner, WholePieces) else None
        self._meters = {
            operation: OperationMeter() for operation in ("put", "get", "delete", "stat", "list", "capacity")
        }
        self._gets = self._meters["get"]

    def snapshot(self) -> dict[str, OperationMeter]:
        """A copy of the figures as they are now."""
        return {operation: meter.copy() for operation, meter in self._meters.items()}

    async def put(self, name: str, source: PieceSource) -> bytes:
        with _Call(self._meters["put"]) as call:
            counted = _CountedRestartable if isinstance(source, RestartableSource) else _CountedSource
            return await self.inner.put(name, counted(source, call))

    def put_whole(self, name: str, buffers: Sequence[Buffer], digest: bytes) -> asyncio.Future[bytes] | None:
        """See `WholePieces.put_whole`. A call of `put` from its beginning to the future's end."""
        future = self._whole.put_whole(name, buffers, digest) if self._whole is not None else None
        if future is not None:
            call = _Call(self._meters["put"]).__enter__()
            call.meter.bytes += sum([memoryview(buffer).nbytes for buffer in buffers])
            future.add_done_callback(call.ended)
        return future

    async def get(self, locator: bytes, offset: int, length: int) -> Buffer:
        with _Call(self._meters["get"]) as call:
            buffer = await self.inner.get(locator, offset, length)
            call.meter.bytes += memoryview(buffer).nbytes
            return buffer

    def get_now(self, locator: bytes, offset: int, length: int) -> Buffer | None:
        """See `InstantReads.get_now`. Only what was had counts as a call: the rest comes again as `get`."""
        buffer = self._instant.get_now(locator, offset, length) if self._instant is not None else None
        if buffer is not None:
            self._count_instant(length)
        return buffer

    def get_soon(self, locator: bytes, offset: int, length: int) -> Callable[[], Buffer | None] | None:
        """See `InstantReads.get_soon`. Counted as had, which it nearly always is: the function runs elsewhere."""
        read = self._instant.get_soon(locator, offset, length) if self._instant is not None else None
        if read is not None:
            self._count_instant(length)
        return read

    def _count_instant(self, length: int) -> None:
        meter = self._gets
        meter.calls += 1
        meter.bytes += length
        meter.buckets[0] += 1

    async def delete(self, locator: bytes) -> None:
        with _Call(self._meters["delete"]):
            await self.inner.delete(locator)

    async def stat(self, locator: bytes) -> Entry:
        with _Call(self._meters["stat"]):
            return await self.inner.stat(locator)

    async def list(self, prefix: str = "") -> AsyncIterator[Entry]:
        with _Call(self._meters["list"]):
            async for entry in self.inner.list(prefix):
                yield entry

    async def capacity(self) -> Capacity:
        with _Call(self._meters["capacity"]):
            return await self.inner.capacity()


class _Call:
    """One call under way, from `with` to its end."""

    __slots__ = ("_began", "meter")

    def __init__(self, meter: OperationMeter) -> None:
        self.meter = meter

    def __enter__(self) -> Self:
        self.meter.calls += 1
        self.meter.under_way += 1
        self._began = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        seconds = time.monotonic() - self._began
        self.meter.under_way -= 1
        self.meter.seconds += seconds
        self.meter.buckets[bisect.bisect_left(BOUNDS, seconds)] += 1
        if kind is not None and kind is not GeneratorExit:  # a listing may be left early
            self.meter.errors[kind.__name__] += 1

    def ended(self, future: asyncio.Future[bytes]) -> None:
        """The end of a call that is a future."""
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        self.__exit__(None if error is None else type(error))


class _CountedSource:
    """A source whose bytes are counted as they pass."""

    def __init__(self, source: PieceSource, call: _Call) -> None:
        self._source = source
        self._call = call

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        async for buffer in self._source:
            self._call.meter.bytes += memoryview(buffer).nbytes
            yield buffer

    def digest(self) -> bytes:
        return self._source.digest()


class _CountedRestartable(_CountedSource):
    """The same for a source that a retry below may restart; bytes sent twice count twice."""

    def restart(self) -> None:
        assert isinstance(self._source, RestartableSource)
        self._source.restart()
