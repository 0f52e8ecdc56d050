"""The object store's façade: every S3 rule of buckets, objects, versions and multipart uploads, as plain methods.

Keys, prefixes, delimiters and markers are `str` here and UTF-8 bytes below; all order is by UTF-8 bytes. Methods that
take a `Bucket` trust only its identity: whether it still exists and its versioning state are read in the transaction
that commits, so a stale `Bucket` never breaks a rule. All methods may raise `NoSuchBucket` for a bucket that is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from catalog.interface import Catalog
from core.buffers import Source
from core.clock import Clock
from core.workers import Worker
from engine.bodies import Bodies
from engine.errors import EngineError
from engine.keyring import Keyring
from engine.open import OpenObject
from engine.ports import CommitObserver
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
    ) -> None: ...

    async def start(self) -> None:
        """Begin to follow the change feed, which keeps the bucket cache fresh. Call once, before serving."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop what `start` began."""
        raise NotImplementedError

    def workers(self) -> list[Worker]:
        """The background jobs of the metadata half, for the worker runner: reclaiming of manifests and upload parts,
        expiry of remembered completions and of tombstones."""
        raise NotImplementedError

    # Buckets

    async def create_bucket(self, name: str, *, owner: str, acl: str = "private", location: str = "") -> Bucket:
        """Make a bucket; the name's form is the caller's business. Raises BucketExists with the present owner."""
        raise NotImplementedError

    async def get_bucket(self, name: str) -> Bucket:
        """From a cache that the change feed invalidates (other gateways' changes show within a second). Raises
        NoSuchBucket."""
        raise NotImplementedError

    async def delete_bucket(self, bucket: Bucket) -> None:
        """Remove an empty bucket. Raises BucketNotEmpty while it holds any version or delete marker. Uploads in
        progress don't hold it back (as on AWS): they are gone with it, and their parts are reclaimed."""
        raise NotImplementedError

    async def list_buckets(
        self, *, owner: str | None, prefix: str = "", after: str = "", limit: int = 1000
    ) -> tuple[list[Bucket], str]:
        """Buckets by name, those of `owner` or all, with names > `after`; and the name to go on after, "" at the end."""
        raise NotImplementedError

    async def update_bucket(self, bucket: Bucket, change: Callable[[Bucket], Bucket]) -> Bucket:
        """Replace versioning, acl or settings: `change` gets the stored bucket and may run again. Id, name, owner,
        location and creation time can't change (ValueError)."""
        raise NotImplementedError

    # Objects

    async def put_object(
        self,
        bucket: Bucket,
        key: str,
        source: Source,
        *,
        attributes: ObjectAttributes,
        digests: Sequence[Digest] = (),
        finish: Finish,
        condition: WriteCondition = UNCONDITIONAL,
        size_hint: int | None = None,
    ) -> ObjectInfo:
        """Store a new version. Raises PreconditionFailed("If-None-Match" | "If-Match"), NoSuchKey (If-Match on a
        missing key or a delete marker), Unavailable, StorageFull, and whatever `source` or `finish` raises."""
        raise NotImplementedError

    async def head_object(self, bucket: Bucket, key: str, version_id: str = "") -> ObjectInfo:
        """Raises NoSuchKey, NoSuchVersion (also for an id of another form), IsDeleteMarker(info), where info.is_latest
        and the caller's own version_id tell how it was reached."""
        raise NotImplementedError

    async def open_object(self, bucket: Bucket, key: str, version_id: str = "") -> OpenObject:
        """The same, holding the version's bytes readable until `close()`; use as `async with`."""
        raise NotImplementedError

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
        unless one was given. Raises PreconditionFailed; NoSuchVersion for an id of an impossible form."""
        raise NotImplementedError

    async def delete_objects(
        self, bucket: Bucket, items: Sequence[tuple[str, str, WriteCondition]], *, owner: str
    ) -> list[DeleteResult | EngineError]:
        """`delete_object` for each (key, version id, condition), in bounded concurrency so that commits are shared.
        Results in the order of `items`; an item's refusal is its result."""
        raise NotImplementedError

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
        raise NotImplementedError

    async def set_tags(
        self, bucket: Bucket, key: str, version_id: str, tags: Sequence[tuple[str, str]]
    ) -> ObjectInfo:
        """Replace a version's tags ("" = the latest); errors as `head_object`."""
        raise NotImplementedError

    async def set_acl(self, bucket: Bucket, key: str, version_id: str, acl: str) -> ObjectInfo:
        """Replace a version's canned ACL; errors as `head_object`."""
        raise NotImplementedError

    # Listings: `limit` counts keys (versions, uploads) and common prefixes together; 0 gives an empty page.
    # A marker is exclusive; one that lies inside a common prefix skips that prefix.

    async def list_objects(
        self, bucket: Bucket, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> Listing:
        """The latest versions that are no delete markers, by key."""
        raise NotImplementedError

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
        "null", or the `next_version_id` of the page before (opaque). Raises NoSuchVersion for one of impossible form."""
        raise NotImplementedError

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
        raise NotImplementedError

    async def get_upload(self, bucket: Bucket, key: str, upload_id: str) -> Upload:
        """Raises NoSuchUpload: unknown, of another key or bucket, aborted or completed."""
        raise NotImplementedError

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
        raise NotImplementedError

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
        raise NotImplementedError

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
    ) -> ObjectInfo:
        """Make the object of the named parts. `conclude` computes ETag and checksums from the stored parts in order; it
        may run again, and raising refuses the completion and leaves the upload as it was. An empty checksum set in a
        CompletePart is not compared. Raises NoSuchUpload, InvalidPartOrder (also for no parts), InvalidPart(number),
        PartTooSmall, and the conditions' errors. The same completion again within a day gives the same answer."""
        raise NotImplementedError

    async def abort_upload(self, bucket: Bucket, key: str, upload_id: str) -> None:
        """Raises NoSuchUpload."""
        raise NotImplementedError

    async def list_parts(
        self, bucket: Bucket, key: str, upload_id: str, *, after: int = 0, limit: int = 1000
    ) -> PartListing:
        """Parts with numbers > `after`. Raises NoSuchUpload."""
        raise NotImplementedError

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
        raise NotImplementedError
