"""Stores every piece by `put_whole`, so that what is promised of `put` can be asked of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from backends.decorators.wrapper import BackendWrapper
from backends.interface import PieceSource, WholePieces
from core.buffers import Buffer


class AsWholePieces(BackendWrapper):
    """Gathers a piece and gives it to the backend inside at once, if that takes it so; `whole` counts those."""

    whole = 0

    async def put(self, name: str, source: PieceSource) -> bytes:
        assert isinstance(self.inner, WholePieces)
        buffers = [buffer async for buffer in source]
        future = self.inner.put_whole(name, buffers, source.digest())
        if future is None:
            return await self.inner.put(name, _Gathered(buffers, source.digest()))
        self.whole += 1
        return await future


class _Gathered:
    def __init__(self, buffers: list[Buffer], digest: bytes) -> None:
        self._buffers = buffers
        self._digest = digest

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        for buffer in self._buffers:
            yield buffer

    def digest(self) -> bytes:
        return self._digest
