"""A version opened for reading."""

from __future__ import annotations

from collections.abc import AsyncIterator

from engine.types import ObjectInfo, Part


class OpenObject:
    """One version's bytes, kept from collection until `close`. Use as `async with await store.open_object(...)`."""

    info: ObjectInfo

    async def part(self, number: int) -> tuple[int, Part]:
        """Offset and description of a part. Number 1 of an object that was not made by multipart is the whole. Raises
        InvalidPart."""
        raise NotImplementedError

    async def parts(self, after: int = 0, limit: int = 1000) -> list[Part]:
        """Parts with numbers > `after`, in order; none for an object that was not made by multipart."""
        raise NotImplementedError

    def read(self, offset: int, length: int) -> AsyncIterator[memoryview]:
        """Plaintext of a range that lies inside the object; views of at most 1 MiB, valid until the next."""
        raise NotImplementedError

    async def fetch(self, offset: int, length: int) -> bytes:
        """A range of up to 1 MiB (bodies.MAX_FETCH) as one buffer."""
        raise NotImplementedError

    def close(self) -> None:
        """Let the bytes go. Idempotent."""
        raise NotImplementedError

    async def __aenter__(self) -> OpenObject:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
