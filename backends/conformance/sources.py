"""Piece sources for tests: whole, broken and stalled ones."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

from core.buffers import Buffer


class BytesSource:
    """A piece made of the given chunks; it can be restarted, and is strict about when its digest may be asked for.

    The digest is SHA-256 of the bytes: a backend never looks inside it.
    """

    def __init__(self, *chunks: Buffer) -> None:
        self._chunks = chunks
        self._iterating = False
        self._exhausted = False
        self.restarts = 0

    def restart(self) -> None:
        self.restarts += 1
        self._iterating = self._exhausted = False

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        assert not self._iterating, "a source is iterated once"
        self._iterating = True
        for chunk in self._chunks:
            await asyncio.sleep(0)
            yield chunk
        self._exhausted = True

    def digest(self) -> bytes:
        assert self._exhausted, "the digest is valid only after the last byte"
        return hashlib.sha256(b"".join(self._chunks)).digest()


class FailingSource(BytesSource):
    """Yields its chunks, then raises `error` instead of ending."""

    def __init__(self, error: Exception, *chunks: Buffer) -> None:
        super().__init__(*chunks)
        self._error = error

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        for chunk in self._chunks:
            yield chunk
        raise self._error


class StalledSource(BytesSource):
    """Yields its chunks, sets `stalled`, and waits until `release` is set before it ends."""

    def __init__(self, *chunks: Buffer) -> None:
        super().__init__(*chunks)
        self.stalled = asyncio.Event()
        self.release = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        for chunk in self._chunks:
            yield chunk
        self.stalled.set()
        await self.release.wait()
        self._exhausted = True
