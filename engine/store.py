"""The object store's façade: every S3 rule of buckets, objects, versions and multipart uploads, as plain methods.

Keys, prefixes, delimiters and markers are `str` here and UTF-8 bytes below; all order is by UTF-8 bytes. Methods that
take a `Bucket` trust only its identity: whether it still exists and its versioning state are read in the transaction
that commits, so a stale `Bucket` never breaks a rule. All methods may raise `NoSuchBucket` for a bucket that is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from catalog.interface import Catalog
from core.buffers import Source
from core.clock import Clock
from core.workers import Worker
from engine import attributes, complete, copy, delete, listing, objects, uploads
from engine.bodies import Bodies
from engine.buckets import Buckets
from engine.context import Context
from engine.errors import EngineError
from engine.keyring import Keyring
from engine.open import OpenObject
from engine.ports import Admission, BucketQuota, CommitObserver
from engine.reclaim import Reclaimer
from engine.types import (
    UNCONDITIONAL,
    Bucket,
    ChecksumType,
    CompletePart,
    DeleteResult,
    Digest,
    Finish,
    Listing,
    ObjectAttributes,
    ObjectInfo,
    Outcome,
    Part,
    PartListing,
    Upload,
    UploadListing,
    VersionListing,
    WriteCondition,
)

#: S3's smallest part, but for the last.
MINIMUM_PART = 5 << 20


class ObjectStore:
    """Everything that the front doors do to buckets and objects."""

    def __init__(
        self,
        catalog: Catalog,
        bodies: Bodies,
        keyring: Keyring,
        clock: Clock,
        observers: Sequence[CommitObserver] = (),
        quota: BucketQuota | None = None,
    ) -> None:
        self._buckets = Buckets(catalog, keyring, clock, quota)
        self._context = Context(catalog, bodies, keyring, clock, self._buckets, tuple(observers))

    async def start(self) -> None:
        """Begin to follow the change feed, which keeps the bucket cache fresh. Call once, before serving."""
        await self._buckets.start()

    async def close(self) -> None:
        """Stop what `start` began."""
        await self._buckets.close()

    def workers(self) -> list[Worker]:
        """The background jobs of the metadata half, for the worker runner: reclaiming of manifests and upload parts,
        expiry of remembered completions and of tombstones."""
        return [Reclaimer(self._context)]

    # Buckets

    async def create_bucket(self, name: str, *, owner: str, acl: str = "private", location: str = "") -> Bucket:
        """Make a bucket; the name's form is the caller's business. Raises BucketExists with the present owner, and
        TooManyBuckets for a new name where the owner has as many as its quota allows."""
        return await self._buckets.create(name, owner=owner, acl=acl, location=location)

    def get_bucket(self, name: str) -> Awaitable[Bucket]:
        """From a cache that the change feed invalidates (other gateways' changes show within a second). Raises
        NoSuchBucket."""
        return self._buckets.get(name)

    async def delete_bucket(self, bucket: Bucket) -> None:
        """Remove an empty bucket. Raises BucketNotEmpty while it holds any version or delete marker. Uploads in
        progress don't hold it back (as on AWS): they are gone with it, and their parts are reclaimed."""
        await self._buckets.delete(bucket)

    async def list_buckets(
        self, *, owner: str | None, prefix: str = "", after: str = "", limit: int = 1000
    ) -> tuple[list[Bucket], str]:
        """Buckets by name > `after`, those of `owner` or all; and the name to go on after, "" at the end."""
        return await self._buckets.list(owner=owner, prefix=prefix, after=after, limit=limit)

    async def count_buckets(self) -> Counter[str]:
        """How many buckets each owner has, of one snapshot: a scan over all buckets' names."""
        return await self._buckets.count()

    async def update_bucket(self, bucket: Bucket, change: Callable[[Bucket], Bucket]) -> Bucket:
        """Replace versioning, acl or settings: `change` gets the stored bucket and may run again. Id, name, owner,
        location and creation time can't change (ValueError)."""
        return await self._buckets.update(bucket, change)

    # Objects

    def put_object(
        self,
        bucket: Bucket,
        key: str,
        source: Source | bytes,
        *,
        attributes: ObjectAttributes,
        digests: Sequence[Digest] = (),
        finish: Finish,
        condition: WriteCondition = UNCONDITIONAL,
        size_hint: int | None = None,
        admit: Admission | None = None,
    ) -> Awaitable[ObjectInfo]:
        """Store a new version. Raises PreconditionFailed("If-None-Match" | "If-Match"), NoSuchKey (If-Match on a
        missing key or a delete marker), Unavailable, StorageFull, and whatever `source`, `finish` or `admit` raises."""
        return objects.put_object(
            self._context,
            bucket,
            key,
            source,
            attributes=attributes,
            digests=digests,
            finish=finish,
            condition=condition,
            size_hint=size_hint,
            admit=admit,
        )

    async def latest_versions(self, bucket: Bucket, keys: Sequence[str]) -> list[ObjectInfo | None]:
        """What each key is now, of one snapshot: its latest version, which may be a delete marker; None for none."""
        return await objects.latest_versions(self._context, bucket, keys)

    async def head_object(self, bucket: Bucket, key: str, version_id: str = "") -> ObjectInfo:
        """Raises NoSuchKey, NoSuchVersion (also for an id of another form), IsDeleteMarker(info), where info.is_latest
        and the caller's own version_id tell how it was reached."""
        return await objects.head_object(self._context, bucket, key, version_id)

    async def open_object(self, bucket: Bucket, key: str, version_id: str = "") -> OpenObject:
        """The same, holding the version's bytes readable until `close()`; use as `async with`."""
        return await objects.open_object(self._context, bucket, key, version_id)

    def open_latest(self, name: str, key: str) -> Awaitable[tuple[Bucket, OpenObject | EngineError]]:
        """`get_bucket` and `open_object` of a key's latest version in one look at the catalog. Raises NoSuchBucket;
        NoSuchKey and IsDeleteMarker are returned beside the bucket."""
        return objects.open_latest(self._context, name, key)

    async def delete_object(
        self,
        bucket: Bucket,
        key: str,
        *,
        version_id: str = "",
        condition: WriteCondition = UNCONDITIONAL,
        owner: str,
    ) -> DeleteResult:
        """Without a version id: remove (unversioned), or put a delete marker of `owner` on top (enabled: a new one;
        suspended: the null one, which replaces the null version). With one: remove exactly that version; the one before
        becomes the latest. What is not there is no error. `version_id` of the result is "" on an unversioned bucket
        unless one was given. A condition is judged on the version that goes (engine/conditions.py): PreconditionFailed,
        or NoSuchKey for If-Match on nothing. NoSuchVersion for an id of an impossible form."""
        return await delete.delete_object(
            self._context, bucket, key, version_id=version_id, condition=condition, owner=owner
        )

    async def delete_objects(
        self, bucket: Bucket, items: Sequence[tuple[str, str, WriteCondition]], *, owner: str
    ) -> list[DeleteResult | EngineError]:
        """`delete_object` for each (key, version id, condition), in bounded concurrency so that commits are shared.
        Results in the order of `items`; an item's refusal is its result."""
        return await delete.delete_objects(self._context, bucket, items, owner=owner)

    async def copy_object(
        self,
        source: OpenObject,
        bucket: Bucket,
        key: str,
        *,
        attributes: ObjectAttributes,
        condition: WriteCondition = UNCONDITIONAL,
        outcome: Outcome | None = None,
    ) -> ObjectInfo:
        """A new version with `source`'s bytes: shares the manifest and moves none. Without `outcome` the copy keeps
        the source's ETag, checksums and parts; with one it takes ETag and checksums from it, and keeps the parts only
        while its ETag has the multipart form. If the source is deleted meanwhile its bytes are copied."""
        return await copy.copy_object(
            self._context, source, bucket, key, attributes=attributes, condition=condition, outcome=outcome
        )

    async def set_tags(
        self,
        bucket: Bucket,
        key: str,
        version_id: str,
        tags: Sequence[tuple[str, str]],
        *,
        seen: ObjectInfo | None = None,
    ) -> ObjectInfo:
        """Replace a version's tags ("" = the latest); errors as `head_object`, and ConditionalConflict when it is not
        the version `seen`, which the caller's permission was decided on."""
        return await attributes.set_tags(self._context, bucket, key, version_id, tags, seen=seen)

    async def set_acl(
        self, bucket: Bucket, key: str, version_id: str, acl: str, *, seen: ObjectInfo | None = None
    ) -> ObjectInfo:
        """Replace a version's canned ACL; errors as `set_tags`."""
        return await attributes.set_acl(self._context, bucket, key, version_id, acl, seen=seen)

    # Listings: `limit` counts keys (versions, uploads) and common prefixes together; 0 gives an empty page.
    # A marker is exclusive; one that lies inside a common prefix skips that prefix.

    async def list_objects(
        self, bucket: Bucket, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> Listing:
        """The latest versions that are no delete markers, by key."""
        return await listing.list_objects(
            self._context, bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit
        )

    async def list_rows(
        self, base: bytes, bucket: Bucket, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> Listing:
        """`list_objects` over the rows `base ‖ key` of another room, whose values are `records.ListRow`s."""
        return await listing.list_rows(
            self._context, base, bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit
        )

    async def list_versions(
        self,
        bucket: Bucket,
        *,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        version_marker: str = "",
        limit: int = 1000,
    ) -> VersionListing:
        """All versions and delete markers: key ascending, newest first. `version_marker` may be a public version id,
        "null", or the `next_version_id` of the page before (opaque). Raises NoSuchVersion for an impossible form."""
        return await listing.list_versions(
            self._context,
            bucket,
            prefix=prefix,
            delimiter=delimiter,
            key_marker=key_marker,
            version_marker=version_marker,
            limit=limit,
        )

    # Multipart uploads

    async def create_upload(
        self,
        bucket: Bucket,
        key: str,
        *,
        attributes: ObjectAttributes,
        initiator: str,
        checksum_algorithm: str = "",
        checksum_type: ChecksumType | None = None,
    ) -> Upload:
        return await uploads.create_upload(
            self._context,
            bucket,
            key,
            attributes=attributes,
            initiator=initiator,
            checksum_algorithm=checksum_algorithm,
            checksum_type=checksum_type,
        )

    async def get_upload(self, bucket: Bucket, key: str, upload_id: str) -> Upload:
        """Raises NoSuchUpload: unknown, of another key or bucket, aborted or completed."""
        return await uploads.get_upload(self._context, bucket, key, upload_id)

    async def upload_part(
        self,
        bucket: Bucket,
        key: str,
        upload_id: str,
        number: int,
        source: Source,
        *,
        digests: Sequence[Digest] = (),
        finish: Finish,
        size_hint: int | None = None,
    ) -> Part:
        """Store part `number` (1 to 10,000, the caller checks); a later commit of the same number replaces it. Raises
        NoSuchUpload, also when the upload ended while the bytes were on their way."""
        return await uploads.upload_part(
            self._context,
            bucket,
            key,
            upload_id,
            number,
            source,
            digests=digests,
            finish=finish,
            size_hint=size_hint,
        )

    async def upload_part_copy(
        self,
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
        """Make a part of a range of an open object by reference: no bytes are stored (but if the source is deleted
        meanwhile, or the range is made of very many extents). `outcome` is the range's ETag and checksums: the caller
        reads the range through its digests first (`source.read`)."""
        return await uploads.upload_part_copy(
            self._context, bucket, key, upload_id, number, source, offset, length, outcome=outcome
        )

    async def complete_upload(
        self,
        bucket: Bucket,
        key: str,
        upload_id: str,
        parts: Sequence[CompletePart],
        *,
        conclude: Callable[[Sequence[Part]], Outcome],
        condition: WriteCondition = UNCONDITIONAL,
        minimum_part: int = MINIMUM_PART,
        admit: Admission | None = None,
    ) -> ObjectInfo:
        """Make the object of the named parts. `conclude` computes ETag and checksums from the stored parts in order; it
        may run again, and raising (as `admit` may) refuses the completion and leaves the upload as it was. An empty
        checksum set in a CompletePart is not compared. Raises NoSuchUpload, InvalidPartOrder (also for no parts),
        InvalidPart(number), PartTooSmall, and the conditions' errors. The same completion again within a day gives the
        same answer."""
        return await complete.complete_upload(
            self._context,
            bucket,
            key,
            upload_id,
            parts,
            conclude=conclude,
            condition=condition,
            minimum_part=minimum_part,
            admit=admit,
        )

    async def abort_upload(self, bucket: Bucket, key: str, upload_id: str) -> None:
        """Raises NoSuchUpload."""
        await uploads.abort_upload(self._context, bucket, key, upload_id)

    async def list_parts(
        self, bucket: Bucket, key: str, upload_id: str, *, after: int = 0, limit: int = 1000
    ) -> PartListing:
        """Parts with numbers > `after`. Raises NoSuchUpload."""
        return await uploads.list_parts(self._context, bucket, key, upload_id, after=after, limit=limit)

    async def list_uploads(
        self,
        bucket: Bucket,
        *,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        upload_marker: str = "",
        limit: int = 1000,
    ) -> UploadListing:
        """Uploads in progress: by key, then by time of initiation."""
        return await listing.list_uploads(
            self._context,
            bucket,
            prefix=prefix,
            delimiter=delimiter,
            key_marker=key_marker,
            upload_marker=upload_marker,
            limit=limit,
        )
