"""One run of bytes of a source's object, taken up again where a connection broke off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from gateway.migrate.errors import SourceDown
from gateway.migrate.pace import Backoff, Bandwidth
from gateway.migrate.source import Found, SourceClient


class Download:
    """The whole object, `length` bytes from `offset`, or its part number `part`; use as `async with`, `begin` first.

    Iterating gives exactly `found.length` bytes of the one object that `begin` found, whatever happens to it meanwhile,
    or raises what the source did. A source that is silent for `patience` seconds is given up (SourceDown).
    """

    def __init__(
        self,
        client: SourceClient,
        key: str,
        *,
        etag: str = "",
        offset: int = 0,
        length: int | None = None,
        part: int = 0,
        patience: float,
        bandwidth: Bandwidth,
    ) -> None:
        self._client = client
        self._key = key
        self._etag = etag
        self._offset = offset
        self._length = length
        self._part = part
        self._backoff = Backoff(patience)
        self._bandwidth = bandwidth
        self._stack = AsyncExitStack()
        self._chunks: AsyncIterator[bytes] | None = None
        self._done = 0
        self.found: Found | None = None

    async def __aenter__(self) -> Download:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._let_go()

    async def begin(self) -> Found:
        """Ask the source; the headers of its answer."""
        while True:
            try:
                return await self._open()
            except SourceDown as error:
                await self._backoff.wait(error)

    async def _open(self) -> Found:
        answer = self._client.get(self._key, etag=self._etag, offset=self._offset, length=self._length, part=self._part)
        found, self._chunks = await self._stack.enter_async_context(answer)
        self._backoff.reset()
        self.found = self.found or found
        return found

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._read()

    async def _read(self) -> AsyncIterator[bytes]:
        found = self.found
        assert found is not None
        while self._done < found.length:
            try:
                assert self._chunks is not None
                async for chunk in self._chunks:
                    self._done += len(chunk)
                    self._backoff.reset()
                    await self._bandwidth.take(len(chunk))
                    yield chunk
            except SourceDown as error:
                await self._resume(found, error)
        await self._let_go()

    async def _resume(self, found: Found, error: SourceDown) -> None:
        """Go on after the last byte that came. Raises SourceDown where that can't be asked for."""
        if found.offset is None or not found.etag:
            raise error
        self._etag, self._part = found.etag, 0
        self._offset, self._length = found.offset + self._done, found.length - self._done
        while True:
            await self._let_go()
            await self._backoff.wait(error)
            try:
                await self._open_again()
                return
            except SourceDown as another:
                error = another

    async def _open_again(self) -> None:
        answer = self._client.get(self._key, etag=self._etag, offset=self._offset, length=self._length)
        _, self._chunks = await self._stack.enter_async_context(answer)

    async def _let_go(self) -> None:
        """Close the answer under way; what it says at that moment no longer matters."""
        stack, self._stack, self._chunks = self._stack, AsyncExitStack(), None
        try:
            await stack.aclose()
        except SourceDown:
            return
