"""Trying again what may pass: exponential backoff with full jitter, bounded in attempts and in time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar, runtime_checkable

from backends.decorators.wrapper import BackendWrapper
from backends.errors import RetryLater
from backends.interface import Backend, Capacity, Entry, PieceSource
from core.buffers import Buffer

T = TypeVar("T")


@runtime_checkable
class RestartableSource(Protocol):
    """A `PieceSource` that can begin again; having this method is what makes its `put` retryable."""

    def restart(self) -> None:
        """The next iteration yields the same bytes from the first on. Called between iterations only."""
        ...


class RetryBackend(BackendWrapper):
    """Repeats a call that raised `RetryLater`; every other error comes out at once.

    Before attempt *i* (from 1) it sleeps a uniformly random time up to `base` × 2^(i-1), at most `cap` seconds. It
    gives up, with the last error, after `attempts` calls or when the next sleep would end later than `total` seconds
    after the first call began.

    A `put` is repeated only if its source has `restart()`. Where an attempt that raised had stored the piece after
    all, the next one raises `AlreadyExists`: the caller takes a new name, as after any failed put. `list` is repeated
    until it has yielded its first entry.
    """

    def __init__(
        self,
        inner: Backend,
        *,
        attempts: int = 4,
        base: float = 0.05,
        cap: float = 2.0,
        total: float = 15.0,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(inner)
        if attempts < 1:
            raise ValueError("at least one attempt is needed")
        self._attempts = attempts
        self._base = base
        self._cap = cap
        self._total = total
        self._random = rng or random.SystemRandom()
        self._sleep = sleep
        self.retries = 0  # repeated calls so far

    async def open(self) -> None:
        await self._persist(self.inner.open)

    async def put(self, name: str, source: PieceSource) -> bytes:
        if not isinstance(source, RestartableSource):
            return await self.inner.put(name, source)
        return await self._persist(lambda: self.inner.put(name, source), restart=source.restart)

    async def get(self, locator: bytes, offset: int, length: int) -> Buffer:
        return await self._persist(lambda: self.inner.get(locator, offset, length))

    async def delete(self, locator: bytes) -> None:
        await self._persist(lambda: self.inner.delete(locator))

    async def stat(self, locator: bytes) -> Entry:
        return await self._persist(lambda: self.inner.stat(locator))

    async def capacity(self) -> Capacity:
        return await self._persist(self.inner.capacity)

    async def list(self, prefix: str = "") -> AsyncIterator[Entry]:
        async def begin() -> tuple[AsyncIterator[Entry], Entry | None]:
            entries = self.inner.list(prefix)
            return entries, await anext(entries, None)

        entries, entry = await self._persist(begin)
        if entry is not None:
            yield entry
            async for entry in entries:
                yield entry

    async def _persist(self, call: Callable[[], Awaitable[T]], *, restart: Callable[[], None] | None = None) -> T:
        end = time.monotonic() + self._total
        for attempt in range(self._attempts):
            try:
                return await call()
            except RetryLater:
                pause = self._random.uniform(0, min(self._cap, self._base * 2**attempt))
                if attempt + 1 == self._attempts or time.monotonic() + pause > end:
                    raise
            await self._sleep(pause)
            self.retries += 1
            if restart is not None:
                restart()
        raise AssertionError("the last attempt returns or raises")
