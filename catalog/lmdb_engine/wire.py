"""What a host and its guests say to each other: msgpack arrays with a tag, each behind its length in four bytes.

The guest speaks only after the host's first `Opened`, which tells it that it may open the file. Both are processes of
one program, so there is nothing to negotiate but `VERSION`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from catalog.errors import (
    CatalogClosed,
    CatalogError,
    CatalogFailed,
    CatalogFull,
    CatalogMisuse,
    CatalogMoving,
    CatalogUnavailable,
)

VERSION: Final = 1

#: The longest message, in bytes. Also what the commits of one guest that are under way may have together.
MOST_BYTES: Final = 64 << 20
#: How many commits of one guest may be under way.
MOST_COMMITS: Final = 256

_HEAD: Final = 4


class ProtocolBroken(Exception):
    """The other side sent what no version of the program sends."""


class Commit(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="c"):
    """Guest: commit `writes` if nothing that was read changed since the snapshot with `sequence`. Ranges are start ≤
    key < end. `attempt` counts from 0; `turn` says that the host's other transactions wait for this one."""

    number: int
    sequence: int
    attempt: int
    turn: bool
    reads: Collection[bytes]
    ranges: Sequence[tuple[bytes, bytes]]
    writes: dict[bytes, bytes | None]


class TurnUnused(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="u"):
    """Guest: the turn that it was given is not needed any more."""


class Released(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="r"):
    """Guest: it has let go of the file, as `LetGo` with this number asked, until the next `Opened`."""

    number: int


class ReadingLong(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="g"):
    """Guest: whether it has long reads open from now on."""

    open: bool


class Opened(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="o"):
    """Host: the file may be opened, or stay open."""

    version: int
    sequence: int


class LetGo(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="l"):
    """Host: let go of the file and say so."""

    number: int


class Durable(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="d"):
    """Host: the newest durable sequence, and which of the guest's commits it made durable."""

    sequence: int
    numbers: Sequence[int]


class Stale(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="s"):
    """Host: what the commit read has changed, and the change can be seen. With `turn` nobody else commits for a while,
    until the next attempt."""

    number: int
    turn: bool


class Refused(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="e"):
    """Host: these commits failed with an error of this name."""

    numbers: Sequence[int]
    error: str
    text: str


class Farewell(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="f"):
    """Host: the catalog closes; what was not answered was not looked at."""


FromGuest = Commit | TurnUnused | Released | ReadingLong
FromHost = Opened | LetGo | Durable | Stale | Refused | Farewell

_encode: Final = msgspec.msgpack.Encoder().encode
_ERRORS: Final[dict[str, type[Exception]]] = {
    kind.__name__: kind
    for kind in (
        CatalogClosed,
        CatalogFailed,
        CatalogFull,
        CatalogMisuse,
        CatalogMoving,
        CatalogUnavailable,
        ValueError,
    )
}


def refusal(numbers: Sequence[int], error: Exception) -> Refused:
    """An error for commits."""
    return Refused(numbers, type(error).__name__, str(error))


def error_of(refused: Refused) -> Exception:
    """The error that a refusal stands for."""
    return _ERRORS.get(refused.error, CatalogError)(refused.text)


def encoded(message: FromGuest | FromHost) -> bytes:
    """A message without its length. Raises ValueError when it is longer than `MOST_BYTES`."""
    body = _encode(message)
    if len(body) > MOST_BYTES:
        raise ValueError(f"a transaction of {len(body)} bytes; up to {MOST_BYTES} are allowed here")
    return body


class Frames:
    """Takes a stream apart."""

    __slots__ = ("_needed", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = 0

    def feed(self, data: bytes) -> list[memoryview]:
        """The messages that end in `data`. Raises ProtocolBroken for a length that can't be."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        messages = []
        position, end = 0, len(data)
        view = memoryview(data)
        needed = _HEAD
        while position + _HEAD <= end:
            length = int.from_bytes(data[position : position + _HEAD], "big")
            if not 0 < length <= MOST_BYTES:
                raise ProtocolBroken(f"a message of {length} bytes")
            needed = _HEAD + length
            if position + needed > end:
                break
            messages.append(view[position + _HEAD : position + needed])
            position += needed
            needed = _HEAD
        if position < end:
            self._rest += view[position:]
            self._needed = needed
        return messages


class Outgoing:
    """Messages that go out with one write."""

    __slots__ = ("_pieces", "_transport")

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self._pieces: list[bytes] = []

    def add(self, body: bytes) -> bool:
        """Keep an encoded message for the next `flush`. Returns whether it is the first one."""
        pieces = self._pieces
        first = not pieces
        pieces.append(len(body).to_bytes(_HEAD, "big"))
        pieces.append(body)
        return first

    def flush(self) -> None:
        """Write what was kept."""
        pieces = self._pieces
        if pieces:
            self._pieces = []
            if not self._transport.is_closing():
                self._transport.writelines(pieces)


def decoder(messages: Any) -> msgspec.msgpack.Decoder[Any]:
    """For one side's messages. It raises msgspec.MsgspecError or what `UNDECODABLE` holds."""
    return msgspec.msgpack.Decoder(messages)


#: What decoding raises on bytes that nobody encoded.
UNDECODABLE: Final = (msgspec.MsgspecError, ValueError, TypeError, RecursionError)
