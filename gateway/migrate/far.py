"""An object read at the source itself: answers HEAD, and the GET of what is too large to be waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator

from core.buffers import Buffer
from engine.errors import InvalidPart
from engine.types import NULL_VERSION, ObjectAttributes, ObjectInfo, Part
from gateway.migrate.download import Download
from gateway.migrate.errors import SourceError
from gateway.migrate.pace import Bandwidth
from gateway.migrate.source import Found, SourceClient
from gateway.s3.errors import S3Error


def unavailable() -> S3Error:
    """What a client is told when the source can't be had."""
    return S3Error(
        "ServiceUnavailable",
        "The place that this bucket is being copied from does not answer as it should. Please try again.",
        headers={"Retry-After": "5"},
    )


class FarObject:
    """See `gateway.s3.contract.Readable`. All of its bytes are of the one object that `found` describes."""

    def __init__(
        self, client: SourceClient, key: str, found: Found, attributes: ObjectAttributes, *, patience: float
    ) -> None:
        self._client = client
        self._found = found
        self._patience = patience
        self.info = ObjectInfo(key, NULL_VERSION, True, False, found.size, found.etag, found.modified_us, attributes)

    async def __aenter__(self) -> FarObject:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is held but by a read under way, which its iterator ends."""

    async def part(self, number: int) -> tuple[int, Part]:
        info = self.info
        if number != 1:
            raise InvalidPart(number)
        return 0, Part(1, info.size, info.etag, info.checksums, info.modified_us)

    async def read(self, offset: int, length: int) -> AsyncIterator[Buffer]:
        """A range inside the object. Raises S3Error ServiceUnavailable."""
        try:
            async with Download(
                self._client,
                self.info.key,
                etag=self._found.etag,
                offset=offset,
                length=length,
                patience=self._patience,
                bandwidth=Bandwidth(0),
            ) as download:
                await download.begin()
                async for chunk in download:
                    yield chunk
        except SourceError:
            raise unavailable() from None

    async def fetch(self, offset: int, length: int) -> bytes:
        return b"".join([bytes(chunk) async for chunk in self.read(offset, length)])
