"""DELETE of the latest version, of a named one, and of many keys at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from catalog.interface import Transaction
from engine.conditions import judge_delete
from engine.context import Context
from engine.errors import EngineError, NoSuchVersion
from engine.layout import BUCKET
from engine.objects import new_version
from engine.ports import AbsenceObserver
from engine.records import MARKER, NULL, HeadRow
from engine.types import (
    Bucket,
    DeleteResult,
    ObjectAttributes,
    Outcome,
    Versioning,
    WriteCondition,
)
from engine.versions import KeyPlace, decode_head, describe, find, is_version_id, next_token, public_id, push, remove

#: Deletes of one DeleteObjects that are under way at once: what one commit of the catalog then holds.
CONCURRENCY = 256


async def delete_object(
    context: Context, bucket: Bucket, key: str, *, version_id: str, condition: WriteCondition, owner: str
) -> DeleteResult:
    if version_id and not is_version_id(version_id):
        raise NoSuchVersion("not an id of this store")
    place = KeyPlace(bucket.id, key.encode())

    async def commit(txn: Transaction) -> DeleteResult:
        raw_bucket, raw_head = await txn.get_many((BUCKET + bucket.id, place.head))
        live = context.buckets.live(bucket, raw_bucket)
        head = decode_head(raw_head)
        if version_id or live.versioning is Versioning.UNVERSIONED:
            return await _remove(context, txn, live, key, place, head, version_id, condition)
        return await _mark(context, txn, live, key, place, head, condition, owner)

    return await context.catalog.transact(commit)


async def _remove(
    context: Context,
    txn: Transaction,
    bucket: Bucket,
    key: str,
    place: KeyPlace,
    head: HeadRow | None,
    version_id: str,
    condition: WriteCondition,
) -> DeleteResult:
    version = await find(txn, place, head, version_id)
    judge_delete(condition, version)
    if version is None or head is None:
        if not version_id:
            for observer in context.observers:
                if isinstance(observer, AbsenceObserver):
                    await observer.absent(txn, bucket, key)
        return DeleteResult(version_id)
    info = describe(bucket, key, version, latest=version is head.current)
    await remove(txn, context.bodies, place, head, version, context.clock.now_us())
    for observer in context.observers:
        await observer.removed(txn, bucket, info)
    return DeleteResult(version_id, info.delete_marker, info)


async def _mark(
    context: Context,
    txn: Transaction,
    bucket: Bucket,
    key: str,
    place: KeyPlace,
    head: HeadRow | None,
    condition: WriteCondition,
    owner: str,
) -> DeleteResult:
    """Put a delete marker on top; in a suspended bucket it is the null version."""
    judge_delete(condition, None if head is None else head.current)
    blank = new_version(bucket, ObjectAttributes(owner=owner), Outcome(""), size=0, wrapped=b"")
    marker = msgspec.structs.replace(
        blank,
        etag=b"",
        token=next_token(context.clock.now_us(), head),
        flags=MARKER if bucket.versioning is Versioning.ENABLED else MARKER | NULL,
    )
    replaced = await push(txn, context.bodies, place, head, marker)
    old = None if replaced is None else describe(bucket, key, replaced, latest=False)
    info = describe(bucket, key, marker, latest=True)
    for observer in context.observers:
        await observer.committed(txn, bucket, info, old)
    return DeleteResult(public_id(marker), True, old)


async def delete_objects(
    context: Context, bucket: Bucket, items: Sequence[tuple[str, str, WriteCondition]], *, owner: str
) -> list[DeleteResult | EngineError]:
    async def one(key: str, version_id: str, condition: WriteCondition) -> DeleteResult | EngineError:
        try:
            return await delete_object(context, bucket, key, version_id=version_id, condition=condition, owner=owner)
        except EngineError as error:
            return error

    results: list[DeleteResult | EngineError] = []
    for start in range(0, len(items), CONCURRENCY):
        results += await asyncio.gather(*(one(*item) for item in items[start : start + CONCURRENCY]))
    return results
