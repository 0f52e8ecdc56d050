"""`MemoryBackend`: pieces in this process's memory, for tests and as the shortest example of a backend."""

from __future__ import annotations

from collections.abc import AsyncIterator

from backends.errors import AlreadyExists, NoSpace, NotFound, PermanentError
from backends.interface import MAX_NAME, Capacity, Entry, PieceSource, Properties
from core.buffers import Buffer


class MemoryBackend:
    """Pieces in a dictionary, up to `capacity` bytes. They outlive `close` and `open`, not the instance."""

    def __init__(self, *, capacity: int = 1 << 40, device: str = "") -> None:
        self._total = capacity
        self._used = 0
        self._pieces: dict[str, bytes] = {}
        self._device = device
        self._open = False

    async def open(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False

    def properties(self) -> Properties:
        return Properties(kind="memory", device=self._device)

    async def put(self, name: str, source: PieceSource) -> bytes:
        self._check()
        if not 0 < len(name) <= MAX_NAME or not name.isascii():
            raise PermanentError(f"not a piece name: {name[:80]!r}")
        chunks = []
        size = 0
        async for chunk in source:
            size += memoryview(chunk).nbytes
            if self._used + size > self._total:
                raise NoSpace(f"{self._total - self._used} bytes free")
            chunks.append(bytes(chunk))
        # No await from here on: of two with one name the first to arrive wins, and a cancelled one never got here.
        if name in self._pieces:
            raise AlreadyExists(f"{name} is taken")
        if self._used + size > self._total:
            raise NoSpace(f"{self._total - self._used} bytes free")
        self._pieces[name] = b"".join(chunks)
        self._used += size
        return name.encode()

    async def get(self, locator: bytes, offset: int, length: int) -> Buffer:
        if offset < 0 or length < 0:
            raise ValueError("a range has no negative numbers")
        return memoryview(self._piece(locator))[offset : offset + length]

    async def delete(self, locator: bytes) -> None:
        self._check()
        self._used -= len(self._pieces.pop(locator.decode("ascii", "replace"), b""))

    async def stat(self, locator: bytes) -> Entry:
        return Entry(locator.decode(), len(self._piece(locator)))

    async def list(self, prefix: str = "") -> AsyncIterator[Entry]:
        self._check()
        for name, piece in list(self._pieces.items()):
            if name.startswith(prefix):
                yield Entry(name, len(piece))

    async def capacity(self) -> Capacity:
        self._check()
        return Capacity(total=self._total, used=self._used, free=self._total - self._used)

    def _piece(self, locator: bytes) -> bytes:
        self._check()
        try:
            return self._pieces[locator.decode("ascii", "replace")]
        except KeyError:
            raise NotFound(f"no piece {locator[:80]!r}") from None

    def _check(self) -> None:
        if not self._open:
            raise PermanentError("the backend is not open")
