"""CopyObject: a new version on the same bytes.

The manifest (or the one body) gets another referrer and the content key is wrapped anew for the target: 32 bytes,
whatever the object's size and number of parts.
"""

from __future__ import annotations

from catalog.interface import Transaction
from engine import references
from engine.context import Context
from engine.objects import Commit, new_version, put_object
from engine.open import OpenObject
from engine.records import Version
from engine.references import TargetGone
from engine.types import Bucket, ObjectAttributes, ObjectInfo, Outcome, WriteCondition


class _CopyCommit(Commit):
    """Shares what the source refers to. Raises TargetGone when the source was removed since it was opened."""

    async def attach(self, txn: Transaction, version: Version) -> None:
        await references.add(txn, version.body or version.manifest, version.token)


async def copy_object(
    context: Context,
    source: OpenObject,
    bucket: Bucket,
    key: str,
    *,
    attributes: ObjectAttributes,
    condition: WriteCondition,
    outcome: Outcome | None,
) -> ObjectInfo:
    info, old = source.info, source.version
    kept = outcome is None or "-" in outcome.etag
    if outcome is None:
        outcome = Outcome(info.etag, info.checksums, info.checksum_type)
    content_key = await source.content_key()
    wrapped = await context.buckets.wrap(bucket, old.body or old.manifest, old.size, content_key)
    version = new_version(
        bucket,
        attributes,
        outcome,
        size=old.size,
        wrapped=wrapped,
        body=old.body,
        manifest=old.manifest,
        parts=old.parts if kept else 0,
    )
    try:
        return await context.catalog.transact(_CopyCommit(context, bucket, key, version, condition, source=info))
    except TargetGone:
        # The source is gone from the catalog, but our pin keeps its bytes.
        concluded = outcome
        return await put_object(
            context,
            bucket,
            key,
            source.read(0, old.size),
            attributes=attributes,
            digests=(),
            finish=lambda _: concluded,
            condition=condition,
            size_hint=old.size,
            copied_from=info,
        )
