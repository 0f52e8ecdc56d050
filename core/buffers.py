"""The types that bytes travel in."""

from __future__ import annotations

from collections.abc import AsyncIterable

#: Anything with the buffer protocol that the C libraries below us accept.
Buffer = bytes | bytearray | memoryview

#: A body on its way in: chunks of any size, in order. Iterated once.
Source = AsyncIterable[Buffer]
