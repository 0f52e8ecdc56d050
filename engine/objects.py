"""PUT, HEAD, and the open that GET starts with.

A PUT costs two row reads (bucket, head) and two row writes (head, listing) beside those of its body: the head embeds
the latest version and that embeds its one body.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import partial

import msgspec

from catalog.interface import Reader, Transaction
from core.buffers import Source
from engine import references
from engine.bodies import StoredBody
from engine.conditions import judge_write
from engine.context import Context
from engine.errors import EngineError, IsDeleteMarker, NoSuchKey
from engine.layout import BUCKET, HEAD, key_hash
from engine.layout_data import ALIVE
from engine.open import OpenObject
from engine.ports import Admission
from engine.records import HEAD_ROW, MARKER, NULL, HeadRow, Version, pack_attributes, pack_checksum_type, pack_etag
from engine.types import (
    NULL_VERSION,
    Bucket,
    Digest,
    Finish,
    ObjectAttributes,
    ObjectInfo,
    Outcome,
    Versioning,
    WriteCondition,
)
from engine.versions import KeyPlace, decode_head, describe, first_rows, load, next_token, push


def new_version(
    bucket: Bucket,
    attributes: ObjectAttributes,
    outcome: Outcome,
    *,
    size: int,
    wrapped: bytes,
    body: bytes = b"",
    manifest: bytes = b"",
    parts: int = 0,
) -> Version:
    """A version to be, still without the token and flags that its commit decides."""
    return Version(
        b"",
        0,
        size,
        pack_etag(outcome.etag),
        pack_attributes(attributes, bucket.owner),
        outcome.checksums,
        pack_checksum_type(outcome.checksum_type),
        parts,
        body,
        manifest,
        wrapped,
    )


class Commit:
    """The common part of every transaction that adds a version: a callable for `Catalog.transact`.

    `attach` gives the version its reference to body or manifest, before anything that it replaces lets go of the same.
    `source` is what a copy was made of. After the transaction `version` is what was committed.
    """

    def __init__(
        self,
        context: Context,
        bucket: Bucket,
        key: str,
        version: Version,
        condition: WriteCondition,
        *,
        source: ObjectInfo | None = None,
        admit: Admission | None = None,
    ) -> None:
        self._context = context
        self._bucket = bucket
        self._key = key
        place = self._place = KeyPlace(bucket.id, key.encode())
        #: See `engine.bodies.Known`.
        self.reads = (BUCKET + bucket.id, place.head)
        self._version = version
        self._condition = condition
        self._source = source
        self._admit = admit
        self.version = version

    async def __call__(self, txn: Transaction) -> ObjectInfo:
        context, place = self._context, self._place
        raw_bucket, raw_head = await txn.get_many(self.reads)
        bucket = context.buckets.live(self._bucket, raw_bucket)
        head = decode_head(raw_head)
        judge_write(self._condition, None if head is None else head.current)
        version = self.version = self._dated(bucket, head)
        info = describe(bucket, self._key, version, latest=True)
        if self._admit is not None:
            current = None if head is None else head.current
            present = None if current is None else describe(bucket, self._key, current, latest=True)
            await self._admit(txn, bucket, present, info)
        await self.attach(txn, version)
        replaced = await push(txn, context.bodies, place, head, version)
        if context.observers:
            old = None if replaced is None else describe(bucket, self._key, replaced, latest=False)
            for observer in context.observers:
                if self._source is None:
                    await observer.committed(txn, bucket, info, old)
                else:
                    await observer.copied(txn, bucket, info, self._source, old)
        return info

    def _dated(self, bucket: Bucket, head: HeadRow | None) -> Version:
        return msgspec.structs.replace(
            self._version,
            token=next_token(self._context.clock.now_us(), head),
            flags=self._version.flags | (0 if bucket.versioning is Versioning.ENABLED else NULL),
        )

    def at_once(self, found: Sequence[bytes | None]) -> tuple[Version, dict[bytes, bytes | None]] | None:
        """See `engine.bodies.Known`: of a body onto a key that has nothing, where nobody else has to be asked."""
        raw_bucket, raw_head = found
        if raw_bucket is None or raw_head is not None:
            return None
        context, place = self._context, self._place
        bucket = context.buckets.live(self._bucket, raw_bucket)
        for observer in context.observers:
            if observer.heeds(bucket):
                return None
        version = self.version = self._dated(bucket, None)
        writes: dict[bytes, bytes | None] = {**first_rows(place, version)}
        writes[ALIVE + version.body] = version.token  # as `attach`
        return version, writes

    async def attach(self, txn: Transaction, version: Version) -> None:
        """For a body that this very transaction brings to life."""
        references.create(txn, version.body, version.token)


async def put_object(
    context: Context,
    bucket: Bucket,
    key: str,
    source: Source | bytes,
    *,
    attributes: ObjectAttributes,
    digests: Sequence[Digest],
    finish: Finish,
    condition: WriteCondition,
    size_hint: int | None,
    copied_from: ObjectInfo | None = None,
    admit: Admission | None = None,
) -> ObjectInfo:
    content_key = context.keyring.new_content_key()
    stored = await context.bodies.store(
        source,
        content_key=content_key,
        storage_class=attributes.storage_class,
        digests=digests,
        finish=finish,
        size_hint=size_hint,
    )
    try:
        wrapped = await context.buckets.wrap(bucket, stored.id, stored.length, content_key)
        version = new_version(bucket, attributes, stored.outcome, size=stored.length, wrapped=wrapped, body=stored.id)
        commit = Commit(context, bucket, key, version, condition, source=copied_from, admit=admit)
    except BaseException:
        await context.bodies.discard([stored])
        raise
    if admit is None and copied_from is None and not condition.etag:
        committed = await context.bodies.commit_known(stored, commit)
        if committed is not None:
            return _written(key, committed, stored, attributes)
    return await context.bodies.commit([stored], commit)


def _written(key: str, version: Version, stored: StoredBody, attributes: ObjectAttributes) -> ObjectInfo:
    """`describe` of a version that was just made of these."""
    outcome, token = stored.outcome, version.token
    return ObjectInfo(
        key,
        NULL_VERSION if version.flags & NULL else token.hex(),
        True,
        False,
        stored.length,
        outcome.etag,
        int.from_bytes(token[:8], "big"),
        attributes,
        outcome.checksums,
        outcome.checksum_type,
    )


async def head_object(context: Context, bucket: Bucket, key: str, version_id: str) -> ObjectInfo:
    place = KeyPlace(bucket.id, key.encode())

    async def look(reader: Reader) -> tuple[Version, bool]:
        return await load(reader, place, version_id)

    version, latest = await context.catalog.read(look)
    return shown(bucket, key, version, latest=latest)


async def latest_versions(context: Context, bucket: Bucket, keys: Sequence[str]) -> list[ObjectInfo | None]:
    places = [KeyPlace(bucket.id, key.encode()).head for key in keys]

    async def look(reader: Reader) -> list[bytes | None]:
        return await reader.get_many(places)

    found: list[ObjectInfo | None] = []
    for key, raw in zip(keys, await context.catalog.read(look), strict=True):
        head = decode_head(raw)
        current = None if head is None else head.current
        found.append(None if current is None else describe(bucket, key, current, latest=True))
    return found


async def open_object(context: Context, bucket: Bucket, key: str, version_id: str) -> OpenObject:
    place = KeyPlace(bucket.id, key.encode())

    async def look(reader: Reader) -> tuple[Version, bool]:
        return await load(reader, place, version_id)

    pin = context.bodies.pin()
    try:
        version, latest = await context.catalog.read(look)
        info = shown(bucket, key, version, latest=latest)
        return OpenObject(context.catalog, context.bodies, context.keyring, bucket, version, info, pin)
    except BaseException:
        pin.release()
        raise


async def open_latest(context: Context, name: str, key: str) -> tuple[Bucket, OpenObject | EngineError]:
    """A bucket and the latest version of a key in it, of one state of the catalog; or the bucket, and why there is no
    such version. Raises NoSuchBucket."""
    buckets, glance = context.buckets, context.buckets.glance
    bucket = buckets.cached(name) or await buckets.get(name)
    pin = context.bodies.pin()
    try:
        while True:
            head = HEAD + key_hash(bucket.id, key.encode())
            rows = (head, BUCKET + bucket.id) if buckets.looked_at else (head,)
            found = None if glance is None else glance(rows)
            if found is None:
                found = await context.catalog.read(partial(_get_many, rows))
            if len(found) == 1:
                break
            if found[1] is not None:
                bucket = buckets.live(bucket, found[1])
                break
            bucket = await buckets.get(name)  # it was deleted: another one may have its name
        version = None if found[0] is None else HEAD_ROW.decode(found[0]).current
        if version is not None:
            info = describe(bucket, key, version, latest=True)
            if not version.flags & MARKER:
                return bucket, OpenObject(context.catalog, context.bodies, context.keyring, bucket, version, info, pin)
    except BaseException:
        pin.release()
        raise
    pin.release()
    return bucket, NoSuchKey("no such key") if version is None else IsDeleteMarker(info)


def _get_many(keys: Sequence[bytes], reader: Reader) -> Awaitable[list[bytes | None]]:
    return reader.get_many(keys)


def shown(bucket: Bucket, key: str, version: Version, *, latest: bool) -> ObjectInfo:
    """The version described. Raises IsDeleteMarker."""
    info = describe(bucket, key, version, latest=latest)
    if version.flags & MARKER:
        raise IsDeleteMarker(info)
    return info
