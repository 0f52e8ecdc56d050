"""A bound on what is under way at once, and on who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from backends.decorators.wrapper import BackendWrapper
from backends.errors import RetryLater
from backends.interface import Backend, Capacity, Entry, PieceSource
from core.buffers import Buffer


class LimitBackend(BackendWrapper):
    """Lets `concurrent` calls through, first come first served; up to `waiting` more wait.

    Who comes when all places to wait are taken gets `RetryLater` at once: a queue that only grows helps nobody. `list`
    isn't counted: it is paced by whoever iterates it, who may well call the same backend for each entry.
    """

    def __init__(self, inner: Backend, *, concurrent: int | None = None, waiting: int = 256) -> None:
        super().__init__(inner)
        self._concurrent = inner.properties().connections if concurrent is None else concurrent
        if self._concurrent < 1:
            raise ValueError("at least one call must be let through")
        self._waiting_limit = waiting
        self._slots = asyncio.Semaphore(self._concurrent)
        self.waiting = 0  # calls that wait now
        self.refused = 0  # calls that found no place to wait, so far

    async def put(self, name: str, source: PieceSource) -> bytes:
        async with self._slot():
            return await self.inner.put(name, source)

    async def get(self, locator: bytes, offset: int, length: int) -> Buffer:
        async with self._slot():
            return await self.inner.get(locator, offset, length)

    async def delete(self, locator: bytes) -> None:
        async with self._slot():
            await self.inner.delete(locator)

    async def stat(self, locator: bytes) -> Entry:
        async with self._slot():
            return await self.inner.stat(locator)

    async def capacity(self) -> Capacity:
        async with self._slot():
            return await self.inner.capacity()

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._slots.locked():
            if self.waiting >= self._waiting_limit:
                self.refused += 1
                raise RetryLater(f"{self._concurrent} calls are under way and {self.waiting} wait")
            self.waiting += 1
            try:
                await self._slots.acquire()
            finally:
                self.waiting -= 1
        else:
            await self._slots.acquire()
        try:
            yield
        finally:
            self._slots.release()
