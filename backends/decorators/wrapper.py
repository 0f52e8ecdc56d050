"""The decorators' base: every call goes straight to the backend inside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

from backends.interface import Backend, Capacity, Entry, PieceSource, Properties
from core.buffers import Buffer

T = TypeVar("T")


class BackendWrapper:
    """Passes all calls on; a decorator overrides those that it changes."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    async def open(self) -> None:
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    def properties(self) -> Properties:
        return self.inner.properties()

    async def put(self, name: str, source: PieceSource) -> bytes:
        return await self.inner.put(name, source)

    async def get(self, locator: bytes, offset: int, length: int) -> Buffer:
        return await self.inner.get(locator, offset, length)

    async def delete(self, locator: bytes) -> None:
        await self.inner.delete(locator)

    async def stat(self, locator: bytes) -> Entry:
        return await self.inner.stat(locator)

    def list(self, prefix: str = "") -> AsyncIterator[Entry]:
        return self.inner.list(prefix)

    async def capacity(self) -> Capacity:
        return await self.inner.capacity()


def unwrap(backend: Backend, kind: type[T]) -> T | None:
    """The outermost backend of the class `kind` in a stack of decorators; None if there is none."""
    layer: object = backend
    while not isinstance(layer, kind):
        if not isinstance(layer, BackendWrapper):
            return None
        layer = layer.inner
    return layer
