"""Keys of the engine's metadata half: buckets, heads, versions, listings, uploads, manifests.

Every key is `ENGINE ‖ kind ‖ ...`; kinds of the data half (0x80 and above) are in `engine/layout_data.py`.

| kind | key after it | value (engine/records.py) |
|---|---|---|
| BUCKET_NAME | name | bucket id |
| BUCKET | bucket id | BucketRow; every commit that fills the bucket reads it |
| BUCKET_OWNER | owner, terminated ‖ name | bucket id: the owner's buckets by name |
| BUCKETS_MADE | owner | u64: how many buckets the owner ever made within a quota |
| HEAD | key hash | HeadRow: last order, place of the null version, the latest version itself |
| VERSION | key hash ‖ inverted order | VersionRow: every version but the latest |
| LIST | bucket id ‖ key | ListRow: the latest version of a key, unless it is a delete marker |
| VERSION_LIST | bucket id ‖ key, terminated ‖ inverted order | ListRow: every other version and every delete marker |
| UPLOAD | upload id, spread | UploadRow |
| PART | upload id, spread ‖ number u16 | PartRow |
| UPLOAD_LIST | bucket id ‖ key, terminated ‖ upload id | empty: uploads in progress |
| MANIFEST | manifest id | ManifestRow: of a manifest that is more than one whole body |
| EXTENTS | manifest id ‖ end offset u64 | ExtentsRow: a run of extents, by the offset after its last byte |
| PARTS | manifest id ‖ last number u16 | PartsRow: a run of parts |
| RECLAIM | due µs u64, 0 for at once ‖ task u8 ‖ id | empty: work for the reclaimer |

Authoritative rows are keyed by hash or random id, so that commits spread over the key space. LIST, VERSION_LIST and
UPLOAD_LIST are written blindly beside them and read by `Catalog.read`: in a transaction they would make neighbours
conflict (the one exception is the removal of a bucket, which wants just that). LIST and VERSION_LIST are disjoint, and
together they hold each version exactly once.
"""

from __future__ import annotations

from blake3 import blake3

from catalog.keys import inverted_u64, terminated, u64
from catalog.prefixes import ENGINE

BUCKET_NAME = ENGINE + b"\x01"
BUCKET = ENGINE + b"\x02"
BUCKET_OWNER = ENGINE + b"\x03"
HEAD = ENGINE + b"\x04"
VERSION = ENGINE + b"\x05"
LIST = ENGINE + b"\x06"
VERSION_LIST = ENGINE + b"\x07"
UPLOAD = ENGINE + b"\x08"
PART = ENGINE + b"\x09"
UPLOAD_LIST = ENGINE + b"\x0a"
MANIFEST = ENGINE + b"\x0b"
EXTENTS = ENGINE + b"\x0c"
PARTS = ENGINE + b"\x0d"
RECLAIM = ENGINE + b"\x0e"
BUCKETS_MADE = ENGINE + b"\x0f"

KIND = len(BUCKET)
ID = 16

# Tasks of the reclaimer.
RECLAIM_MANIFEST = 1  # id: manifest id
RECLAIM_UPLOAD = 2  # id: upload id
RECLAIM_BUCKET = 3  # id: bucket id
RECLAIM_TOMBSTONE = 4  # id: key hash


def key_hash(bucket_id: bytes, key: bytes) -> bytes:
    """What authoritative rows of a key are keyed by. 128 bits: the bucket id is secret to nobody, so two keys of one
    hash cost 2^64 work and harm only the bucket whose owner found them."""
    return blake3(bucket_id + key).digest(ID)


def spread(token: bytes) -> bytes:
    """An order token with its random half first: spreads rows over the key space. Its own inverse."""
    return token[8:] + token[:8]


def version_key(hashed: bytes, order: int) -> bytes:
    return VERSION + hashed + inverted_u64(order)


def version_list_prefix(bucket_id: bytes, key: bytes) -> bytes:
    """Of all VERSION_LIST rows of one key."""
    return VERSION_LIST + bucket_id + terminated(key)


def version_list_key(bucket_id: bytes, key: bytes, order: int) -> bytes:
    return VERSION_LIST + bucket_id + terminated(key) + inverted_u64(order)


def upload_list_key(bucket_id: bytes, key: bytes, upload: bytes) -> bytes:
    return UPLOAD_LIST + bucket_id + terminated(key) + upload


def part_key(upload: bytes, number: int) -> bytes:
    return PART + spread(upload) + number.to_bytes(2, "big")


def extents_key(manifest: bytes, end: int) -> bytes:
    return EXTENTS + manifest + u64(end)


def parts_key(manifest: bytes, last: int) -> bytes:
    return PARTS + manifest + last.to_bytes(2, "big")


def part_referrer(manifest: bytes, number: int) -> bytes:
    """Who refers to the bodies of part `number` of a manifest, while it is an upload and after."""
    return manifest + number.to_bytes(2, "big")


def owner_prefix(owner: str) -> bytes:
    """Of all BUCKET_OWNER rows of one owner."""
    return BUCKET_OWNER + terminated(owner.encode())


def made_key(owner: str) -> bytes:
    return BUCKETS_MADE + owner.encode()


def owner_key(owner: str, name: str) -> bytes:
    return owner_prefix(owner) + name.encode()


def reclaim_key(task: int, target: bytes, *, due_us: int = 0) -> bytes:
    return RECLAIM + u64(due_us) + bytes((task,)) + target
