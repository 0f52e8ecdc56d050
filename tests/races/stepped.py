"""A catalog and nodes whose visible effects are steps of the explorer.

Between two steps nobody else runs, so a step is put exactly where the order matters. A transaction works on the
snapshot of its start and takes effect at its commit: those two instants are steps, its reads between them are not. A
read is one step, at its snapshot. Asking a node is one step, before it is asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import TypeVar

from backends.decorators.wrapper import BackendWrapper
from backends.interface import Backend, Entry, PieceSource
from catalog.interface import Reader, Transaction
from catalog.memory import MemoryCatalog
from core.buffers import Buffer
from core.clock import Clock
from tests.races.explorer import Scheduler

T = TypeVar("T")

_INSIDE: ContextVar[bool] = ContextVar("inside", default=False)


class SteppedCatalog(MemoryCatalog):
    """The memory catalog with a step at every snapshot and every commit."""

    def __init__(self, scheduler: Scheduler, clock: Clock) -> None:
        super().__init__(on_step=self._commit_step, clock=clock)
        self._scheduler = scheduler

    async def _commit_step(self) -> None:
        if not _INSIDE.get():
            await self._scheduler.step("commit")

    async def read(self, function: Callable[[Reader], Awaitable[T]], *, long: bool = False) -> T:
        await self._scheduler.step("read")
        return await super().read(_uninterrupted(function), long=long)

    async def transact(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        await self._scheduler.step("transact")
        return await super().transact(_uninterrupted(function))


def _uninterrupted(function: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    async def run(reader: Reader) -> T:
        token = _INSIDE.set(True)
        try:
            return await function(reader)
        finally:
            _INSIDE.reset(token)

    return run


class SteppedBackend(BackendWrapper):
    """A node whose calls of the kinds in `kinds` are steps."""

    def __init__(self, inner: Backend, scheduler: Scheduler, kinds: frozenset[str], name: str) -> None:
        super().__init__(inner)
        self._scheduler, self._kinds, self._name = scheduler, kinds, name

    async def _step(self, kind: str) -> None:
        if kind in self._kinds:
            await self._scheduler.step(f"{kind} {self._name}")

    async def put(self, name: str, source: PieceSource) -> bytes:
        await self._step("put")
        return await self.inner.put(name, source)

    async def get(self, locator: bytes, offset: int, length: int) -> Buffer:
        await self._step("get")
        return await self.inner.get(locator, offset, length)

    async def delete(self, locator: bytes) -> None:
        await self._step("delete")
        await self.inner.delete(locator)

    async def list(self, prefix: str = "") -> AsyncIterator[Entry]:
        await self._step("list")
        async for entry in self.inner.list(prefix):
            yield entry
