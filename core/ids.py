"""Identifiers: 128-bit ids, random or nearly so, and names of pieces.

Ids are raw 16 bytes in records and lower-case hex where a person or a file system sees them.
"""

from __future__ import annotations

import os
import secrets
import time

ID_LENGTH = 16


def new_id() -> bytes:
    """A fresh random 128-bit id; collisions are not a case the program has."""
    return os.urandom(ID_LENGTH)


def new_ordered_id() -> bytes:
    """A fresh 128-bit id that sorts behind those of earlier milliseconds: 48 bits of milliseconds since 1970, then 80
    random ones, as in a UUID of version 7 (RFC 9562). For rows that are written together and so should lie together."""
    return (time.time_ns() // 1_000_000).to_bytes(6) + os.urandom(ID_LENGTH - 6)


def new_piece_name(epoch: int) -> str:
    """A name for one placement attempt of one piece: `<epoch: 16 hex>-<random: 32 hex>`. Never reused.

    The prefix is the writing gateway's epoch, so that what a dead gateway left behind is found by a prefix listing.
    """
    return f"{epoch:016x}-{secrets.token_hex(16)}"


#: Epochs count milliseconds since 1970 and never come near 2^60: names that begin so are of snapshots.
SNAPSHOT_NAMES = "f"
_SNAPSHOT_PREFIX = 17  # characters


def snapshot_prefix(tag: bytes) -> str:
    """What names of a root key's snapshot shards begin with: `f<15 hex digits of tag>-`; `tag` has 8 bytes. They have
    the form of piece names, in a place where no epoch's are."""
    return f"{SNAPSHOT_NAMES}{tag.hex()[1:16]}-"


def is_snapshot_name(name: str) -> bool:
    """Whether a listed name is of a snapshot: no row names those, and collection leaves them alone."""
    return name.startswith(SNAPSHOT_NAMES)


def prefix_of_snapshot(name: str) -> str:
    """The `snapshot_prefix` that a snapshot's name begins with."""
    return name[:_SNAPSHOT_PREFIX]


def piece_epoch(name: str) -> int:
    """The epoch in a piece name. Raises ValueError for a name of another form."""
    prefix, dash, rest = name.partition("-")
    if len(prefix) != 16 or dash != "-" or len(rest) != 32:
        raise ValueError(f"not a piece name: {name!r}")
    return int(prefix, 16)
