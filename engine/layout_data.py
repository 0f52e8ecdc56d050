"""Keys of the engine's data half: bodies, segments, packs, references, the deletion queue, keys.

Every key is `ENGINE ‖ kind ‖ ...`; ids are 16 random bytes, so authoritative rows spread over the key space. Kinds of
the metadata half are in `engine/layout.py`; the two never share a kind byte (data: 0x80 and above).

| kind | key after it | value (engine/records_data.py) |
|---|---|---|
| BODY | body id | BodyRow: where the body's sealed bytes are |
| SEGMENT | segment id | SegmentRow: geometry and placement |
| PACK | segment id | PackRow: the members of a pack, in order |
| PACK_DEAD | segment id ‖ body id | sealed length (u32) of a member that is dead: what compaction goes by |
| ALIVE | target id | the first referrer, or empty; absent once the last reference is gone |
| REFERENCE | target id ‖ referrer | empty: references beside the one in the alive row |
| QUEUE_BODY | body id | empty: a released body whose bytes wait for the read horizon |
| QUEUE_SEGMENT | segment id | empty: a segment that no body uses any more |
| QUEUE_PIECE | node id ‖ locator | empty: one replaced or orphaned piece |
| SUSPECT | segment id ‖ piece index u8 ‖ stripe u32 | SuspectRow: damage proven on one piece |
| SHORT | segment id | empty: acknowledged with fewer than n pieces, or narrow: repair and recode go by it |
| DRAFT | segment id | DraftRow: a pack that gives out places before it is written; gone when it is settled |
| STAGED | segment id ‖ offset u32 | body id ‖ sealed bytes: of a draft's member, until the pack is written |
| ROOT | – | RootRow: key-check value, rotation state |
| BUCKET_KEY | bucket id ‖ version u32 | BucketKeyRow: the bucket key, wrapped |
"""

from __future__ import annotations

import struct

from catalog.prefixes import ENGINE

BODY = ENGINE + b"\x80"
SEGMENT = ENGINE + b"\x81"
PACK = ENGINE + b"\x82"
PACK_DEAD = ENGINE + b"\x83"
ALIVE = ENGINE + b"\x84"
REFERENCE = ENGINE + b"\x85"
QUEUE_BODY = ENGINE + b"\x86"
QUEUE_SEGMENT = ENGINE + b"\x87"
QUEUE_PIECE = ENGINE + b"\x88"
SUSPECT = ENGINE + b"\x89"
SHORT = ENGINE + b"\x8a"
ROOT = ENGINE + b"\x8b"
BUCKET_KEY = ENGINE + b"\x8c"
DRAFT = ENGINE + b"\x8e"
STAGED = ENGINE + b"\x8f"  # 0x8d was of bodies that were staged in their own rows: they are read there

ID = 16
_U32 = struct.Struct(">I")
_SUSPECT_TAIL = struct.Struct(">BI")


def prefix_end(prefix: bytes) -> bytes:
    """The first key after every key that starts with `prefix` (whose last byte is not 0xff in any of our kinds)."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1])


def suspect_key(segment: bytes, index: int, stripe: int) -> bytes:
    return SUSPECT + segment + _SUSPECT_TAIL.pack(index, stripe)


def parse_suspect_key(key: bytes) -> tuple[bytes, int, int]:
    """(segment id, piece index, stripe) of a SUSPECT key."""
    start = len(SUSPECT)
    index, stripe = _SUSPECT_TAIL.unpack(key[start + ID :])
    return key[start : start + ID], index, stripe


def bucket_key_key(bucket: bytes, version: int) -> bytes:
    return BUCKET_KEY + bucket + _U32.pack(version)


def staged_key(pack: bytes, offset: int) -> bytes:
    return STAGED + pack + _U32.pack(offset)


def parse_staged(key: bytes, value: bytes) -> tuple[int, bytes, memoryview]:
    """(offset, body id, sealed bytes) of a STAGED row."""
    return _U32.unpack_from(key, len(STAGED) + ID)[0], value[:ID], memoryview(value)[ID:]
