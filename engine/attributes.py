"""Changes of what a version carries beside its bytes: tags and ACL. Listings print neither."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from catalog.interface import Transaction
from engine.context import Context
from engine.errors import ConditionalConflict, IsDeleteMarker, NoSuchKey, NoSuchVersion
from engine.layout import BUCKET
from engine.records import MARKER, Attributes
from engine.types import Bucket, ObjectInfo
from engine.versions import KeyPlace, decode_head, describe, find, order_of, rewrite


async def set_tags(
    context: Context,
    bucket: Bucket,
    key: str,
    version_id: str,
    tags: Sequence[tuple[str, str]],
    *,
    seen: ObjectInfo | None = None,
) -> ObjectInfo:
    return await _change(
        context, bucket, key, version_id, seen, lambda old: msgspec.structs.replace(old, tags=tuple(tags))
    )


async def set_acl(
    context: Context, bucket: Bucket, key: str, version_id: str, acl: str, *, seen: ObjectInfo | None = None
) -> ObjectInfo:
    return await _change(context, bucket, key, version_id, seen, lambda old: msgspec.structs.replace(old, acl=acl))


async def _change(
    context: Context,
    bucket: Bucket,
    key: str,
    version_id: str,
    seen: ObjectInfo | None,
    change: Callable[[Attributes], Attributes],
) -> ObjectInfo:
    place = KeyPlace(bucket.id, key.encode())

    async def commit(txn: Transaction) -> ObjectInfo:
        raw_bucket, raw_head = await txn.get_many((BUCKET + bucket.id, place.head))
        live = context.buckets.live(bucket, raw_bucket)
        head = decode_head(raw_head)
        version = await find(txn, place, head, version_id)
        if version is None or head is None:
            raise NoSuchVersion("no such version") if version_id else NoSuchKey("no such key")
        if seen is not None and order_of(version) != seen.modified_us:
            raise ConditionalConflict("another version took the place of the one that was looked at")
        latest = version is head.current
        if version.flags & MARKER:
            raise IsDeleteMarker(describe(live, key, version, latest=latest))
        changed = msgspec.structs.replace(version, attributes=change(version.attributes))
        rewrite(txn, place, head, changed)
        return describe(live, key, changed, latest=latest)

    return await context.catalog.transact(commit)
