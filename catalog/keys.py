"""Parts of keys whose bytes sort like the values they stand for.

Parts are concatenated. Every part but the last must be of fixed length or terminated, so that the order of whole keys
is the order of the tuples of their values. Specified in docs/formats/catalog.md.
"""

from __future__ import annotations

from typing import Final

from catalog.errors import Corrupt
from catalog.interface import MAX_KEY

#: Ends a terminated part. An escaped zero byte is 00 FF, so the terminator sorts before every continuation.
TERMINATOR: Final = b"\x00\x01"

_MAX_U64: Final = (1 << 64) - 1


def u32(value: int) -> bytes:
    """Four bytes, big-endian. OverflowError outside 0 … 2^32-1."""
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    """Eight bytes, big-endian. OverflowError outside 0 … 2^64-1."""
    return value.to_bytes(8, "big")


def inverted_u64(value: int) -> bytes:
    """Eight bytes that sort the larger value first. OverflowError outside 0 … 2^64-1."""
    return (_MAX_U64 - value).to_bytes(8, "big")


def escaped(data: bytes) -> bytes:
    """`data` with 00 written as 00 FF: a prefix of `terminated(x)` exactly for those x that begin with `data`."""
    return data.replace(b"\x00", b"\x00\xff")


def terminated(data: bytes) -> bytes:
    """A part of any length that sorts as `data` does, whatever follows it. Takes len + zero bytes + 2 bytes."""
    return data.replace(b"\x00", b"\x00\xff") + TERMINATOR


def prefix_end(prefix: bytes) -> bytes:
    """The smallest bound above every key that begins with `prefix`; for an empty prefix, above every key."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return b"\xff" * (MAX_KEY + 1)
    return stripped[:-1] + bytes((stripped[-1] + 1,))


def read_u32(key: bytes, offset: int) -> tuple[int, int]:
    """The value of `u32` at `offset` and the offset behind it. Corrupt when the key ends before."""
    return int.from_bytes(_take(key, offset, 4), "big"), offset + 4


def read_u64(key: bytes, offset: int) -> tuple[int, int]:
    """The value of `u64` at `offset` and the offset behind it. Corrupt when the key ends before."""
    return int.from_bytes(_take(key, offset, 8), "big"), offset + 8


def read_inverted_u64(key: bytes, offset: int) -> tuple[int, int]:
    """The value of `inverted_u64` at `offset` and the offset behind it. Corrupt when the key ends before."""
    return _MAX_U64 - int.from_bytes(_take(key, offset, 8), "big"), offset + 8


def read_terminated(key: bytes, offset: int) -> tuple[bytes, int]:
    """The value of `terminated` at `offset` and the offset behind it. Corrupt when it has no end or a wrong escape."""
    end = key.find(TERMINATOR, offset)
    # Every 00 inside is followed by FF, so the first 00 01 is the terminator.
    if end < 0:
        raise Corrupt("a key part has no terminator")
    part = key[offset:end]
    value = part.replace(b"\x00\xff", b"\x00")
    if part.count(b"\x00") != part.count(b"\x00\xff"):
        raise Corrupt("a key part has an unknown escape")
    return value, end + 2


def _take(key: bytes, offset: int, length: int) -> bytes:
    part = key[offset : offset + length]
    if len(part) != length:
        raise Corrupt("a key ends within a number")
    return part
