"""Where pieces live: one small byte-shaped interface.

A backend stores immutable named byte strings. It knows nothing of objects, keys or codes. Retry, limits, metering and
fault injection are decorators with the same interface (`backends/decorators/`).
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from core.buffers import Buffer

MAX_LOCATOR = 128
MAX_NAME = 128


class PieceSource(Protocol):
    """The bytes of one piece on their way in.

    Iterated once, in order. A yielded buffer stays valid and unchanged until `put` ends: a backend may gather several
    into one write, or send one late. `digest` is valid only after the iterator is exhausted: hashing runs beside the
    transfer, so a backend that wants the hash (to check what it stored, to sign a receipt) sends it after the stream.
    """

    def __aiter__(self) -> AsyncIterator[Buffer]: ...

    def digest(self) -> bytes:
        """32-byte piece hash as the format defines it (docs/formats/object.md)."""
        ...


@dataclass(frozen=True, slots=True)
class Properties:
    """What a caller may rely on; constant for the life of the instance."""

    kind: str  # "disk", "memory", ...
    connections: int = 16  # how many calls may usefully be under way at once
    supports_list: bool = True
    device: str = ""  # what fails together below us ("8:1" for a disk's device number); empty if unknown


@dataclass(frozen=True, slots=True)
class Capacity:
    """Bytes; `free` is what may still be written (the floor already taken off)."""

    total: int
    used: int
    free: int


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    size: int


@runtime_checkable
class InstantReads(Protocol):
    """What a backend may offer besides: reads that need no waiting, for what is in memory already."""

    def get_now(self, locator: bytes, offset: int, length: int) -> Buffer | None:
        """Exactly `length` bytes from `offset` if they can be had without waiting and without trouble, else None; then
        `get` tells. Never blocks, never raises."""
        ...

    def get_soon(self, locator: bytes, offset: int, length: int) -> Callable[[], Buffer | None] | None:
        """The same for another thread: a function that does what `get_now` does and may be called once, from any
        thread, soon. None where it is known already that it would have nothing. Never blocks, never raises."""
        ...


@runtime_checkable
class WholePieces(Protocol):
    """What a backend may offer besides: storing a piece that is in memory whole, without a task and a stream."""

    def put_whole(self, name: str, buffers: Sequence[Buffer], digest: bytes) -> Future[bytes] | None:
        """Begin to store the concatenation of `buffers`, whose piece hash is `digest`; they stay unchanged until the
        future is done. It ends as `Backend.put` would return or raise, with the same promises; cancelling it is
        cancelling that. None where the backend does not take this piece so: then `put` stores it, or tells why not.
        Never blocks, never raises. For calls made in the same turn of the event loop one sync may do."""
        ...


class Backend(Protocol):
    """One place where pieces live.

    Every method may raise `backends.errors.RetryLater` (passing trouble) or `PermanentError` (no retry will help:
    unmounted, read-only, an fsync that failed). Methods that name a piece raise `NotFound` if it isn't there. All are
    safe to call concurrently and to cancel at any await: a cancelled `put` leaves nothing that `get` or `list` shows.
    """

    async def open(self) -> None:
        """Check that this is the place we think it is (identity marker); raises PermanentError if not. Idempotent."""
        ...

    async def close(self) -> None: ...

    def properties(self) -> Properties: ...

    async def put(self, name: str, source: PieceSource) -> bytes:
        """Store a new piece; return its locator (≤ 128 bytes), to be given back in `get`, `delete`, `stat`.

        On return it is durable: it survives a power cut. Never replaces bytes: PermanentError (`AlreadyExists`) if the
        name is taken. If the source raises, nothing is kept and the source's error propagates. Raises `NoSpace` (a
        PermanentError) when below the free-space floor.
        """
        ...

    async def get(self, locator: bytes, offset: int, length: int) -> Buffer:
        """`length` bytes from `offset`; fewer only where the piece ends. Does not verify: the format's hashes do."""
        ...

    async def delete(self, locator: bytes) -> None:
        """Remove a piece durably. Deleting what isn't there succeeds."""
        ...

    async def stat(self, locator: bytes) -> Entry: ...

    def list(self, prefix: str = "") -> AsyncIterator[Entry]:
        """Every complete piece whose name starts with `prefix`, in any order; concurrent changes may show or not."""
        ...

    async def capacity(self) -> Capacity: ...
