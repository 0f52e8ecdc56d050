"""The versions of one key: how they are stacked, named, found, added and removed, row by row.

A key's HEAD row holds its latest version; older ones are VERSION rows, newest first. There is at most one null version
and the head knows its order. Orders only grow: max(clock, the key's last + 1), also over deletes, for which an emptied
key leaves a tombstone behind until no clock that S3's signatures accept can be behind it.

Invariants that every transaction here keeps:
- LIST has a row for the key exactly when its latest version is no delete marker, and it is that version's.
- VERSION_LIST has a row for every other version and for every delete marker.
- A version refers to its body or manifest by its token, from the transaction that adds it to the one that removes it.

The functions are parts of transactions: they await nothing but the transaction.
"""

from __future__ import annotations

import os

from catalog.interface import Reader, Transaction
from catalog.keys import prefix_end, u64
from engine import references
from engine.bodies import Bodies
from engine.errors import NoSuchKey, NoSuchVersion
from engine.layout import (
    HEAD,
    LIST,
    RECLAIM_MANIFEST,
    RECLAIM_TOMBSTONE,
    VERSION,
    key_hash,
    reclaim_key,
    version_key,
    version_list_key,
)
from engine.records import (
    HEAD_ROW,
    MARKER,
    NULL,
    VERSION_ROW,
    HeadRow,
    Version,
    VersionRow,
    list_row,
    unpack_attributes,
    unpack_checksum_type,
    unpack_etag,
)
from engine.types import NULL_VERSION, Bucket, ObjectInfo

#: How long an emptied key's tombstone keeps its last order. Requests of clocks that are further off than this are
#: refused by their signatures, so gateways can't disagree by more and be of use.
TOMBSTONE_US = 15 * 60 * 1_000_000

_TOKEN_HEX = 32
_HEX = frozenset("0123456789abcdef")


class KeyPlace:
    """Where a key's rows are."""

    __slots__ = ("bucket", "hash", "head", "key")

    def __init__(self, bucket: bytes, key: bytes) -> None:
        self.bucket = bucket
        self.key = key
        self.hash = key_hash(bucket, key)
        self.head = HEAD + self.hash

    @property
    def listing(self) -> bytes:
        return LIST + self.bucket + self.key


def is_version_id(text: str) -> bool:
    """Whether `text` has the form of a version id: "null" or 32 lower-case hex digits."""
    return text == NULL_VERSION or (len(text) == _TOKEN_HEX and _HEX.issuperset(text))


def parse_token(text: str) -> bytes:
    """The token behind a public id of a version or an upload. Raises ValueError."""
    if len(text) != _TOKEN_HEX or not _HEX.issuperset(text):
        raise ValueError("not an id of this store")
    return bytes.fromhex(text)


def order_of(version: Version) -> int:
    """A version's order, which is its Last-Modified in µs too."""
    return int.from_bytes(version.token[:8], "big")


def next_token(now_us: int, head: HeadRow | None) -> bytes:
    """A token above everything that the key had."""
    order = now_us if head is None or now_us > head.order else head.order + 1
    return u64(order) + os.urandom(8)


def public_id(version: Version) -> str:
    return NULL_VERSION if version.flags & NULL else version.token.hex()


def describe(bucket: Bucket, key: str, version: Version, *, latest: bool) -> ObjectInfo:
    """The version as the façade shows it."""
    flags = version.flags
    return ObjectInfo(
        key,
        NULL_VERSION if flags & NULL else version.token.hex(),
        latest,
        bool(flags & MARKER),
        version.size,
        unpack_etag(version.etag) if version.etag else "",
        int.from_bytes(version.token[:8], "big"),
        unpack_attributes(version.attributes, bucket.owner),
        version.checksums,
        unpack_checksum_type(version.checksum_type),
        version.parts,
    )


def decode_head(raw: bytes | None) -> HeadRow | None:
    return None if raw is None else HEAD_ROW.decode(raw)


async def find(reader: Reader, place: KeyPlace, head: HeadRow | None, version_id: str) -> Version | None:
    """The version that a public id names ("" = the latest), None if there is none. Raises NoSuchVersion for an id of
    an impossible form."""
    if version_id == "":
        return None if head is None else head.current
    if version_id == NULL_VERSION:
        if head is None or not head.null_order:
            return None
        order, random = head.null_order, None
    else:
        try:
            token = parse_token(version_id)
        except ValueError as error:
            raise NoSuchVersion(str(error)) from None
        order, random = int.from_bytes(token[:8], "big"), token[8:]
    if head is None or head.current is None:
        return None
    current = head.current
    if order == order_of(current):
        found = current
    else:
        raw = await reader.get(version_key(place.hash, order))
        if raw is None:
            return None
        found = VERSION_ROW.decode(raw).version
    if random is not None and (found.flags & NULL or found.token[8:] != random):
        return None
    return found


async def load(reader: Reader, place: KeyPlace, version_id: str) -> tuple[Version, bool]:
    """The version and whether it is the latest. Raises NoSuchKey or NoSuchVersion."""
    head = decode_head(await reader.get(place.head))
    if not version_id:
        if head is None or head.current is None:
            raise NoSuchKey("no such key")
        return head.current, True
    version = await find(reader, place, head, version_id)
    if version is None:
        raise NoSuchVersion("no such version")
    return version, head is not None and version is head.current


async def push(
    txn: Transaction, bodies: Bodies, place: KeyPlace, head: HeadRow | None, version: Version
) -> Version | None:
    """Make `version`, whose token is from `next_token`, the latest. Returns the null version that it replaced."""
    if head is None and not version.flags & MARKER:
        for key, value in first_rows(place, version).items():
            txn.put(key, value)
        return None
    current = None if head is None else head.current
    null_order = 0 if head is None else head.null_order
    replaced: Version | None = None
    if version.flags & NULL:
        if null_order:
            if current is not None and order_of(current) == null_order:
                replaced = current
            else:
                replaced = await _take_older(txn, place, null_order)
        null_order = order_of(version)
    if current is not None and current is not replaced:
        _store_older(txn, place, current)
    elif current is not None and current.flags & MARKER:
        txn.delete(version_list_key(place.bucket, place.key, order_of(current)))
    _list_latest(txn, place, version, listed=current is not None and not current.flags & MARKER)
    if version.flags & MARKER:
        txn.put(version_list_key(place.bucket, place.key, order_of(version)), list_row(version))
    _put_head(txn, place, head, order_of(version), null_order, version)
    if replaced is not None:
        await drop(txn, bodies, replaced)
    return replaced


def first_rows(place: KeyPlace, version: Version) -> dict[bytes, bytes]:
    """What makes `version`, which is no delete marker, the latest of a key that has no HEAD row."""
    order = order_of(version)
    row = HeadRow(order=order, null_order=order if version.flags & NULL else 0, current=version)
    return {place.listing: list_row(version), place.head: HEAD_ROW.encode_new(row)}


async def remove(
    txn: Transaction, bodies: Bodies, place: KeyPlace, head: HeadRow, version: Version, now_us: int
) -> None:
    """Remove a version that `find` returned; when it was the latest, the one before becomes it."""
    order = order_of(version)
    null_order = 0 if version.flags & NULL else head.null_order
    current = head.current
    if current is None or order != order_of(current):
        await _take_older(txn, place, order)
        if null_order != head.null_order:
            _put_head(txn, place, head, head.order, null_order, current)
    else:
        if version.flags & MARKER:
            txn.delete(version_list_key(place.bucket, place.key, order))
        previous = await _newest_older(txn, place)
        listed = not version.flags & MARKER
        if previous is None:
            if listed:
                txn.delete(place.listing)
            _bury(txn, place, head, now_us)
        else:
            txn.delete(version_key(place.hash, order_of(previous)))
            if not previous.flags & MARKER:
                txn.delete(version_list_key(place.bucket, place.key, order_of(previous)))
            _list_latest(txn, place, previous, listed=listed)
            _put_head(txn, place, head, head.order, null_order, previous)
    await drop(txn, bodies, version)


def rewrite(txn: Transaction, place: KeyPlace, head: HeadRow, version: Version) -> None:
    """Store changed attributes of an existing version. What listings print of it must be unchanged."""
    current = head.current
    if current is not None and current.token == version.token:
        _put_head(txn, place, head, head.order, head.null_order, version)
    else:
        txn.put(version_key(place.hash, order_of(version)), VERSION_ROW.encode(VersionRow(version=version)))


async def drop(txn: Transaction, bodies: Bodies, version: Version) -> None:
    """Let go of what a removed version refers to."""
    if version.body:
        if await references.remove(txn, version.body, version.token):
            await bodies.release(txn, version.body)
    elif version.manifest and await references.remove(txn, version.manifest, version.token):
        txn.put(reclaim_key(RECLAIM_MANIFEST, version.manifest), b"")


def _put_head(
    txn: Transaction, place: KeyPlace, head: HeadRow | None, order: int, null_order: int, current: Version | None
) -> None:
    flags = None if head is None else head.flags
    row = HeadRow(flags=flags, order=order, null_order=null_order, current=current)
    txn.put(place.head, HEAD_ROW.encode(row))


def _bury(txn: Transaction, place: KeyPlace, head: HeadRow, now_us: int) -> None:
    """The last version is gone."""
    due = head.order + TOMBSTONE_US
    if due <= now_us:
        txn.delete(place.head)
    else:
        _put_head(txn, place, head, head.order, 0, None)
        txn.put(reclaim_key(RECLAIM_TOMBSTONE, place.hash, due_us=due), b"")


def _list_latest(txn: Transaction, place: KeyPlace, version: Version, *, listed: bool) -> None:
    """Bring LIST to a new latest version; `listed` tells whether the key has a row there now."""
    if not version.flags & MARKER:
        txn.put(place.listing, list_row(version))
    elif listed:
        txn.delete(place.listing)


def _store_older(txn: Transaction, place: KeyPlace, version: Version) -> None:
    """Turn the latest version, which HEAD holds, into an older one."""
    order = order_of(version)
    txn.put(version_key(place.hash, order), VERSION_ROW.encode(VersionRow(version=version)))
    if not version.flags & MARKER:  # a marker's row is there already
        txn.put(version_list_key(place.bucket, place.key, order), list_row(version))


async def _take_older(txn: Transaction, place: KeyPlace, order: int) -> Version:
    """Remove an older version's rows."""
    key = version_key(place.hash, order)
    raw = await txn.get(key)
    if raw is None:
        raise NoSuchVersion("no such version")
    txn.delete(key)
    txn.delete(version_list_key(place.bucket, place.key, order))
    return VERSION_ROW.decode(raw).version


async def _newest_older(txn: Transaction, place: KeyPlace) -> Version | None:
    start = VERSION + place.hash
    rows = await txn.scan(start, prefix_end(start), limit=1)
    return VERSION_ROW.decode(rows[0][1]).version if rows else None
