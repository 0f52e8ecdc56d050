"""Multipart uploads in progress: begin, parts, abort.

An upload's id is the id of the manifest that it becomes (its halves swapped, `layout.spread`), and the bodies of part n
are referred to by `manifest id ‖ n` from the moment the part is committed. So completion touches no body, and a part
that is committed again lets go of what only the earlier attempt used, in the same transaction.

Every commit of a part reads the UPLOAD row, and completing or aborting rewrites or removes it: a part never lands in an
upload that ended. What an ended upload leaves behind is the reclaimer's.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence

from catalog.interface import Reader, Transaction
from catalog.keys import prefix_end, u64
from core.buffers import Source
from engine import references
from engine.bodies import StoredBody
from engine.context import Context
from engine.errors import NoSuchUpload
from engine.layout import (
    BUCKET,
    PART,
    RECLAIM_UPLOAD,
    UPLOAD,
    part_key,
    part_referrer,
    reclaim_key,
    spread,
    upload_list_key,
)
from engine.open import OpenObject
from engine.records import (
    PART_ROW,
    UPLOAD_ROW,
    Extent,
    PartRow,
    UploadRow,
    pack_attributes,
    pack_checksum_type,
    pack_etag,
    unpack_attributes,
    unpack_checksum_type,
    unpack_etag,
)
from engine.references import TargetGone
from engine.types import (
    Bucket,
    ChecksumType,
    Digest,
    Finish,
    ObjectAttributes,
    Outcome,
    Part,
    PartListing,
    Upload,
)
from engine.versions import parse_token

#: A part copied from more extents than this is stored anew, so that its row stays small.
MAX_COPIED_EXTENTS = 4096


async def create_upload(
    context: Context,
    bucket: Bucket,
    key: str,
    *,
    attributes: ObjectAttributes,
    initiator: str,
    checksum_algorithm: str,
    checksum_type: ChecksumType | None,
) -> Upload:
    token = u64(context.clock.now_us()) + os.urandom(8)
    raw_key = key.encode()
    content_key = context.keyring.new_content_key()
    row = UploadRow(
        bucket=bucket.id,
        key=raw_key,
        initiator=initiator,
        attributes=pack_attributes(attributes, bucket.owner),
        checksum_algorithm=checksum_algorithm,
        checksum_type=pack_checksum_type(checksum_type),
        wrapped=await context.buckets.wrap(bucket, spread(token), 0, content_key),
    )
    encoded = UPLOAD_ROW.encode(row)

    async def commit(txn: Transaction) -> None:
        context.buckets.live(bucket, await txn.get(BUCKET + bucket.id))
        txn.put(UPLOAD + spread(token), encoded)
        txn.put(upload_list_key(bucket.id, raw_key, token), b"")

    await context.catalog.transact(commit)
    return upload_value(bucket, token, row)


def upload_value(bucket: Bucket, token: bytes, row: UploadRow) -> Upload:
    return Upload(
        row.key.decode(),
        token.hex(),
        int.from_bytes(token[:8], "big"),
        row.initiator,
        unpack_attributes(row.attributes, bucket.owner),
        row.checksum_algorithm,
        unpack_checksum_type(row.checksum_type),
    )


def upload_token(upload_id: str) -> bytes:
    """Raises NoSuchUpload for an id of another form."""
    try:
        return parse_token(upload_id)
    except ValueError:
        raise NoSuchUpload("not an id of this store") from None


def known_upload(bucket: Bucket, key: str, raw: bytes | None) -> UploadRow:
    """The upload, in progress or completed. Raises NoSuchUpload."""
    if raw is None:
        raise NoSuchUpload("no such upload")
    row = UPLOAD_ROW.decode(raw)
    if row.bucket != bucket.id or row.key != key.encode():
        raise NoSuchUpload("an upload of another key")
    return row


def open_upload(bucket: Bucket, key: str, raw: bytes | None) -> UploadRow:
    """The upload while it is in progress. Raises NoSuchUpload."""
    row = known_upload(bucket, key, raw)
    if row.completed is not None:
        raise NoSuchUpload("the upload was completed")
    return row


async def load_upload(context: Context, bucket: Bucket, key: str, upload_id: str) -> tuple[bytes, UploadRow]:
    """The upload's token and row. Raises NoSuchUpload."""
    token = upload_token(upload_id)

    async def look(reader: Reader) -> bytes | None:
        return await reader.get(UPLOAD + spread(token))

    return token, open_upload(bucket, key, await context.catalog.read(look))


async def get_upload(context: Context, bucket: Bucket, key: str, upload_id: str) -> Upload:
    token, row = await load_upload(context, bucket, key, upload_id)
    return upload_value(bucket, token, row)


async def content_key_of(context: Context, bucket: Bucket, token: bytes, row: UploadRow) -> bytes:
    return await context.keyring.unwrap_content_key(bucket.id, spread(token), 0, row.wrapped)


async def upload_part(
    context: Context,
    bucket: Bucket,
    key: str,
    upload_id: str,
    number: int,
    source: Source,
    *,
    digests: Sequence[Digest],
    finish: Finish,
    size_hint: int | None,
) -> Part:
    token, row = await load_upload(context, bucket, key, upload_id)
    stored = await context.bodies.store(
        source,
        content_key=await content_key_of(context, bucket, token, row),
        storage_class=row.attributes.storage_class or "STANDARD",
        digests=digests,
        finish=finish,
        size_hint=size_hint,
    )
    commit = _part_commit(context, bucket, key, token, number, stored.outcome, (_whole(stored, number),))
    return await context.bodies.commit([stored], commit)


async def upload_part_copy(
    context: Context,
    bucket: Bucket,
    key: str,
    upload_id: str,
    number: int,
    source: OpenObject,
    offset: int,
    length: int,
    *,
    outcome: Outcome,
) -> Part:
    token, row = await load_upload(context, bucket, key, upload_id)
    content_key = await content_key_of(context, bucket, token, row)
    keyring = context.keyring
    extents: list[Extent] = []
    async for run in source.runs(offset, length):
        wrapped = keyring.wrap_body_key(content_key, run.ref.id, run.key)
        extents.append(Extent(run.ref.id, run.ref.length, run.offset, run.length, number, wrapped))
        if len(extents) > MAX_COPIED_EXTENTS:
            break
    if length and len(extents) <= MAX_COPIED_EXTENTS:
        try:
            return await context.catalog.transact(
                _part_commit(context, bucket, key, token, number, outcome, tuple(extents))
            )
        except TargetGone:
            pass  # the source is gone from the catalog, but its pin keeps its bytes
    return await upload_part(
        context,
        bucket,
        key,
        upload_id,
        number,
        source.read(offset, length),
        digests=(),
        finish=lambda _: outcome,
        size_hint=length,
    )


def _whole(stored: StoredBody, number: int) -> Extent:
    return Extent(stored.id, stored.length, 0, stored.length, number)


def _part_commit(
    context: Context,
    bucket: Bucket,
    key: str,
    token: bytes,
    number: int,
    outcome: Outcome,
    extents: tuple[Extent, ...],
) -> Callable[[Transaction], Awaitable[Part]]:
    """The transaction that makes `extents` part `number` of an upload, in place of what was."""
    size = sum(extent.length for extent in extents)
    row = PartRow(
        size=size,
        etag=pack_etag(outcome.etag),
        checksums=outcome.checksums,
        modified_us=context.clock.now_us(),
        extents=extents,
    )
    encoded = PART_ROW.encode(row)
    place = part_key(token, number)
    referrer = part_referrer(spread(token), number)
    bodies = {extent.body for extent in extents}

    async def commit(txn: Transaction) -> Part:
        raw_upload, raw_part = await txn.get_many((UPLOAD + spread(token), place))
        open_upload(bucket, key, raw_upload)
        for body in bodies:
            await references.add(txn, body, referrer)
        if raw_part is not None:
            await let_go(context, txn, referrer, PART_ROW.decode(raw_part).extents, keep=bodies)
        txn.put(place, encoded)
        return part_value(number, row)

    return commit


async def let_go(
    context: Context,
    txn: Transaction,
    referrer: bytes,
    extents: Sequence[Extent],
    *,
    keep: set[bytes] | frozenset[bytes],
) -> None:
    """Remove a part's references to its bodies, but for those in `keep`."""
    for body in {extent.body for extent in extents} - keep:
        if await references.remove(txn, body, referrer):
            await context.bodies.release(txn, body)


def part_value(number: int, row: PartRow) -> Part:
    return Part(number, row.size, unpack_etag(row.etag), row.checksums, row.modified_us)


async def abort_upload(context: Context, bucket: Bucket, key: str, upload_id: str) -> None:
    token = upload_token(upload_id)

    async def commit(txn: Transaction) -> None:
        row = open_upload(bucket, key, await txn.get(UPLOAD + spread(token)))
        end_upload(txn, token, row)
        txn.delete(UPLOAD + spread(token))

    await context.catalog.transact(commit)


def end_upload(txn: Transaction, token: bytes, row: UploadRow) -> None:
    """Take an upload from the list and leave its part rows to the reclaimer."""
    txn.delete(upload_list_key(row.bucket, row.key, token))
    txn.put(reclaim_key(RECLAIM_UPLOAD, token), b"")


async def list_parts(
    context: Context, bucket: Bucket, key: str, upload_id: str, *, after: int, limit: int
) -> PartListing:
    token = upload_token(upload_id)
    prefix = PART + spread(token)
    start = prefix + min(after + 1, 0xFFFF).to_bytes(2, "big")

    async def look(reader: Reader) -> tuple[bytes | None, list[tuple[bytes, bytes]]]:
        raw = await reader.get(UPLOAD + spread(token))
        return raw, await reader.scan(start, prefix_end(prefix), limit=limit + 1) if limit > 0 else []

    raw, rows = await context.catalog.read(look)
    upload = upload_value(bucket, token, open_upload(bucket, key, raw))
    parts = [part_value(int.from_bytes(place[-2:], "big"), PART_ROW.decode(data)) for place, data in rows[:limit]]
    truncated = len(rows) > limit > 0
    return PartListing(upload, parts, truncated, parts[-1].number if truncated else 0)
