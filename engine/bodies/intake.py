"""Taking plaintext in: filling stripe buffers from chunks of any size, and digesting beside the pipeline."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor

from core.buffers import Buffer, Source
from engine.types import Digest


async def one_chunk(data: bytes) -> AsyncIterator[Buffer]:
    """A source of what is there whole."""
    yield data


class Intake:
    """Reads a source in pieces of the caller's size."""

    def __init__(self, source: Source) -> None:
        self._chunks = aiter(source)
        self._rest = memoryview(b"")

    async def more(self) -> bool:
        """Whether another byte follows; fetches the next chunk if need be."""
        while not self._rest.nbytes:
            try:
                chunk = await anext(self._chunks)
            except StopAsyncIteration:
                return False
            self._rest = memoryview(chunk).cast("B")
        return True

    async def small(self, limit: int) -> tuple[bytes, bool]:
        """Everything, if it is at most `limit` bytes: (bytes, True). Else (at least `limit` bytes, False)."""
        assert not self._rest.nbytes
        parts: list[bytes] = []
        size = 0
        async for chunk in self._chunks:
            parts.append(chunk if isinstance(chunk, bytes) else bytes(chunk))
            size += len(parts[-1])
            if size > limit:
                break
        return (parts[0] if len(parts) == 1 else b"".join(parts)), size <= limit

    def push_back(self, data: bytes) -> None:
        """Give back what `small` took; it comes first again."""
        assert not self._rest.nbytes
        self._rest = memoryview(data)

    async def fill(self, buffer: bytearray, size: int) -> int:
        """Copy up to `size` bytes into the front of `buffer`; fewer only at the end of the source."""
        target, place = memoryview(buffer), 0
        while place < size and await self.more():
            count = min(size - place, self._rest.nbytes)
            target[place : place + count] = self._rest[:count]
            self._rest = self._rest[count:]
            place += count
        return place


class BufferPool:
    """Plaintext buffers that are used again, a few of them."""

    def __init__(self, keep: int = 8) -> None:
        self._keep = keep
        self._free: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        while self._free:
            buffer = self._free.pop()
            if len(buffer) == size:
                return buffer
        return bytearray(size)

    def give(self, buffer: bytearray) -> None:
        """Give back a buffer that nobody looks at any more."""
        if len(self._free) < self._keep:
            self._free.append(buffer)


class DigestLine:
    """Feeds one upload's digests in order from a thread, never two calls at once."""

    def __init__(self, digests: Sequence[Digest], pool: Executor) -> None:
        self._digests = digests
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._queue: deque[tuple[Buffer, asyncio.Future[None]]] = deque()
        self._running = False

    def feed(self, data: Buffer) -> asyncio.Future[None]:
        """Queue bytes; the future is done once every digest saw them, or holds what a digest raised."""
        future: asyncio.Future[None] = self._loop.create_future()
        if not self._digests:
            future.set_result(None)
            return future
        with self._lock:
            self._queue.append((data, future))
            start, self._running = not self._running, True
        if start:
            self._pool.submit(self._work)
        return future

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._running = False
                    return
                data, future = self._queue.popleft()
            error: Exception | None = None
            try:
                for digest in self._digests:
                    digest.update(data)
            except Exception as problem:  # whatever a digest raises belongs to the upload
                error = problem
            self._loop.call_soon_threadsafe(_settle, future, error)


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
