"""Ordered listings: objects, versions, uploads.

All read one snapshot, in batches, in the order of keys' UTF-8 bytes. A key that holds the delimiter behind the prefix
stands for its common prefix, and the scan goes on behind everything that begins with it: a subtree costs one seek,
whatever it holds. Items are ordered as strings, common prefixes among keys, and a marker is the last item before the
page: so a marker inside a common prefix, which is greater than the prefix itself, skips it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from catalog.errors import Corrupt
from catalog.interface import Reader, Row
from catalog.keys import escaped, prefix_end, read_terminated, terminated
from engine.context import Context
from engine.errors import NoSuchVersion
from engine.layout import LIST, UPLOAD, UPLOAD_LIST, VERSION_LIST, spread, version_list_key, version_list_prefix
from engine.records import (
    LIST_ROW,
    MARKER,
    NULL,
    UPLOAD_ROW,
    ListRow,
    unpack_algorithms,
    unpack_checksum_type,
    unpack_etag,
    unpack_owner,
)
from engine.types import NULL_VERSION, Bucket, ListedObject, Listing, Upload, UploadListing, VersionListing
from engine.uploads import upload_value
from engine.versions import KeyPlace, decode_head, parse_token

#: Rows of the first batch where subtrees may be skipped, and of every batch after a skip that left its batch.
SMALL_BATCH = 64
LARGE_BATCH = 1001


class Cursor:
    """A forward scan in batches that can jump. `key` is the raw key of the row it stands on, None at the end."""

    def __init__(
        self, reader: Reader, base: bytes, end: bytes, raw: Callable[[bytes], bytes], bound: Callable[[bytes], bytes]
    ) -> None:
        self._reader = reader
        self._base = base
        self._end = end
        self._raw = raw
        self._bound = bound
        self._rows: list[Row] = []
        self._index = 0
        self._batch = SMALL_BATCH
        self._complete = False  # `_rows` reach the end of the range
        self.key: bytes | None = None

    @property
    def row(self) -> Row:
        return self._rows[self._index]

    async def start(self, at: bytes) -> None:
        """Stand on the first row whose stored key is at or behind `at`."""
        self._index = 0
        if at >= self._end:
            self._rows, self._complete, self.key = [], True, None
            return
        self._rows = await self._reader.scan(at, self._end, limit=self._batch)
        self._complete = len(self._rows) < self._batch
        self.key = self._raw(self._rows[0][0]) if self._rows else None

    async def advance(self) -> None:
        self._index += 1
        if self._index < len(self._rows):
            self.key = self._raw(self._rows[self._index][0])
        elif self._complete:
            self.key = None
        else:
            self._batch = min(self._batch * 4, LARGE_BATCH)
            await self.start(self._rows[-1][0] + b"\0")

    async def skip(self, prefix: bytes) -> None:
        """Stand behind every key that begins with `prefix`."""
        if self.key is None or not self.key.startswith(prefix):
            return
        at = prefix_end(self._base + self._bound(prefix))
        low, high = self._index, len(self._rows)
        while low < high:
            middle = (low + high) // 2
            if self._rows[middle][0] < at:
                low = middle + 1
            else:
                high = middle
        if low < len(self._rows):
            self._index = low
            self.key = self._raw(self._rows[low][0])
        elif self._complete:
            self._index, self.key = low, None
        else:
            self._batch = SMALL_BATCH
            await self.start(at)


def _plain_cursor(reader: Reader, base: bytes, prefix: bytes) -> Cursor:
    """Over rows `base ‖ key`."""
    skip = len(base)
    return Cursor(reader, base, prefix_end(base + prefix), lambda stored: stored[skip:], lambda raw: raw)


def _terminated_cursor(reader: Reader, base: bytes, prefix: bytes) -> Cursor:
    """Over rows `base ‖ key, terminated ‖ …`."""
    skip = len(base)
    end = prefix_end(base + escaped(prefix))
    return Cursor(reader, base, end, lambda stored: read_terminated(stored, skip)[0], escaped)


def _first_key(prefix: bytes, delimiter: bytes, marker: bytes) -> bytes | None:
    """The least raw key that a page may hold, or stand for; None when the page is behind the prefix's last key."""
    if marker < prefix or not marker:
        return prefix
    if not marker.startswith(prefix):
        return None
    common = _common_prefix(marker, prefix, delimiter)
    return marker + b"\0" if common is None else prefix_end(common)


def _common_prefix(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    if not delimiter:
        return None
    at = key.find(delimiter, len(prefix))
    return None if at < 0 else key[: at + len(delimiter)]


#: A version as it was found: key, row, whether it is the latest.
_Found = tuple[bytes, ListRow, bool]


def _listed(bucket: Bucket, found: Iterable[_Found]) -> list[ListedObject]:
    # One loop without calls for what is usual: most of a page's cost in this room.
    bucket_owner, listed = bucket.owner, []
    for key, row, latest in found:
        flags, token, etag, owner = row.kind, row.token, row.etag, row.owner
        marker = flags & MARKER != 0
        one = ListedObject(
            key.decode(),
            NULL_VERSION if flags & NULL else token.hex(),
            latest,
            marker,
            row.size,
            "" if marker else etag.hex() if len(etag) == 16 else unpack_etag(etag),
            int.from_bytes(token[:8], "big"),
            unpack_owner(owner, bucket_owner) if owner else bucket_owner,
            row.storage_class or "STANDARD",
            unpack_algorithms(row.algorithms),
            unpack_checksum_type(row.checksum_type),
        )
        listed.append(one)
    return listed


async def list_objects(
    context: Context, bucket: Bucket, *, prefix: str, delimiter: str, after: str, limit: int
) -> Listing:
    base = LIST + bucket.id
    return await list_rows(context, base, bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)


async def list_rows(
    context: Context, base: bytes, bucket: Bucket, *, prefix: str, delimiter: str, after: str, limit: int
) -> Listing:
    """A page of the listing rows `base ‖ key`."""
    raw_prefix, raw_delimiter = prefix.encode(), delimiter.encode()
    first = _first_key(raw_prefix, raw_delimiter, after.encode())
    if first is None or limit <= 0:
        return Listing((), (), False)

    async def flat(reader: Reader) -> Listing:
        rows = await reader.scan(base + first, prefix_end(base + raw_prefix), limit=limit + 1)
        skip = len(base)
        decode = LIST_ROW.decode
        objects = _listed(bucket, [(place[skip:], decode(raw), True) for place, raw in rows[:limit]])
        truncated = len(rows) > limit
        return Listing(objects, (), truncated, objects[-1].key if truncated else "")

    async def grouped(reader: Reader) -> Listing:
        cursor = _plain_cursor(reader, base, raw_prefix)
        await cursor.start(base + first)
        found: list[_Found] = []
        prefixes: list[str] = []
        last = b""
        while cursor.key is not None:
            if len(found) + len(prefixes) == limit:
                return Listing(_listed(bucket, found), prefixes, True, last.decode())
            common = _common_prefix(cursor.key, raw_prefix, raw_delimiter)
            if common is None:
                last = cursor.key
                found.append((last, LIST_ROW.decode(cursor.row[1]), True))
                await cursor.advance()
            else:
                last = common
                prefixes.append(common.decode())
                await cursor.skip(common)
        return Listing(_listed(bucket, found), prefixes, False)

    return await context.catalog.read(grouped if delimiter else flat, long=limit > LARGE_BATCH)


async def list_versions(
    context: Context,
    bucket: Bucket,
    *,
    prefix: str,
    delimiter: str,
    key_marker: str,
    version_marker: str,
    limit: int,
) -> VersionListing:
    """The latest versions lie in LIST, all others and delete markers in VERSION_LIST: the page is their merge."""
    raw_prefix, raw_delimiter, marker = prefix.encode(), delimiter.encode(), key_marker.encode()
    if version_marker and version_marker != NULL_VERSION:
        try:
            parse_token(version_marker)
        except ValueError as error:
            raise NoSuchVersion(str(error)) from None
    first = _first_key(raw_prefix, raw_delimiter, marker)
    if first is None or limit <= 0:
        return VersionListing((), (), False)
    inside = bool(version_marker) and first == marker + b"\0"

    async def look(reader: Reader) -> VersionListing:
        latest = _plain_cursor(reader, LIST + bucket.id, raw_prefix)
        others = _terminated_cursor(reader, VERSION_LIST + bucket.id, raw_prefix)
        order = await _marked_order(reader, bucket, marker, version_marker) if inside else 0
        seen: bytes | None = None  # the key of which newer versions lie behind us
        if order:
            seen = await _start_inside(reader, bucket, marker, order, latest, others)
        else:
            await latest.start(LIST + bucket.id + first)
            await others.start(VERSION_LIST + bucket.id + terminated(first))
        found: list[_Found] = []
        prefixes: list[str] = []
        last = (b"", b"")  # key and token
        while True:
            behind = latest.key is None or (others.key is not None and others.key < latest.key)
            cursor = others if behind else latest
            key = cursor.key
            if key is None:
                return VersionListing(_listed(bucket, found), prefixes, False)
            if len(found) + len(prefixes) == limit:
                return VersionListing(_listed(bucket, found), prefixes, True, last[0].decode(), last[1].hex())
            common = _common_prefix(key, raw_prefix, raw_delimiter)
            if common is not None:
                last = (common, b"")
                prefixes.append(common.decode())
                await latest.skip(common)
                await others.skip(common)
                continue
            row = LIST_ROW.decode(cursor.row[1])
            found.append((key, row, key != seen))
            # A null version's own token marks the place for sure, wherever the null version is by then.
            last = (key, row.token)
            seen = key
            await cursor.advance()

    return await context.catalog.read(look, long=limit > LARGE_BATCH)


async def _marked_order(reader: Reader, bucket: Bucket, key: bytes, version_marker: str) -> int:
    """The order that a version marker stands for; 0 (behind all of the key) when the null version is not there."""
    if version_marker != NULL_VERSION:
        return int.from_bytes(parse_token(version_marker)[:8], "big")
    head = decode_head(await reader.get(KeyPlace(bucket.id, key).head))
    return 0 if head is None else head.null_order


async def _start_inside(
    reader: Reader, bucket: Bucket, key: bytes, order: int, latest: Cursor, others: Cursor
) -> bytes | None:
    """Start both cursors behind the version of `key` with this order. Returns the key if a newer one is before them."""
    await latest.start(LIST + bucket.id + key)
    passed = False
    if latest.key == key and int.from_bytes(LIST_ROW.decode(latest.row[1]).token[:8], "big") >= order:
        passed = True
        await latest.advance()
    behind = version_list_key(bucket.id, key, order - 1)
    await others.start(behind)
    if not passed:
        passed = bool(await reader.scan(version_list_prefix(bucket.id, key), behind, limit=1, keys_only=True))
    return key if passed else None


async def list_uploads(
    context: Context,
    bucket: Bucket,
    *,
    prefix: str,
    delimiter: str,
    key_marker: str,
    upload_marker: str,
    limit: int,
) -> UploadListing:
    base = UPLOAD_LIST + bucket.id
    raw_prefix, raw_delimiter, marker = prefix.encode(), delimiter.encode(), key_marker.encode()
    first = _first_key(raw_prefix, raw_delimiter, marker)
    if first is None or limit <= 0:
        return UploadListing((), (), False)
    start = base + terminated(first)
    if upload_marker and first == marker + b"\0":
        try:
            start = base + terminated(marker) + parse_token(upload_marker) + b"\0"
        except ValueError:
            start = base + terminated(first)

    async def look(reader: Reader) -> UploadListing:
        cursor = _terminated_cursor(reader, base, raw_prefix)
        await cursor.start(start)
        tokens: list[bytes] = []
        prefixes: list[str] = []
        last: tuple[str, str] = ("", "")
        truncated = False
        while cursor.key is not None:
            if len(tokens) + len(prefixes) == limit:
                truncated = True
                break
            common = _common_prefix(cursor.key, raw_prefix, raw_delimiter)
            if common is None:
                token = cursor.row[0][-16:]
                tokens.append(token)
                last = (cursor.key.decode(), token.hex())
                await cursor.advance()
            else:
                last = (common.decode(), "")
                prefixes.append(last[0])
                await cursor.skip(common)
        uploads: list[Upload] = []
        for token, raw in zip(tokens, await reader.get_many([UPLOAD + spread(token) for token in tokens]), strict=True):
            if raw is None:
                raise Corrupt("a listed upload has no row")
            uploads.append(upload_value(bucket, token, UPLOAD_ROW.decode(raw)))
        return UploadListing(uploads, prefixes, truncated, *(last if truncated else ("", "")))

    return await context.catalog.read(look)
