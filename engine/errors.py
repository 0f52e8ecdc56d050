"""The object store's own refusals; the gateway maps each to one S3 error.

EngineError
├── NoSuchBucket, BucketExists(owner), BucketNotEmpty, TooManyBuckets
├── NoSuchKey, NoSuchVersion, IsDeleteMarker(info)
├── NoSuchUpload, InvalidPart(number), InvalidPartOrder, PartTooSmall(number, size, minimum), TooManyParts
├── PreconditionFailed(condition), ConditionalConflict
├── Unavailable          not enough nodes to write or to read now (503)
├── RootKeyRotated       the root key was rotated, and this process has the former one (503)
├── Damaged              bytes that can't be had from any node, though enough answered (500, reported)
└── StorageFull
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.errors import AtollError

if TYPE_CHECKING:
    from engine.types import ObjectInfo


class EngineError(AtollError):
    """Base of the object store's refusals."""


class NoSuchBucket(EngineError):
    pass


class BucketExists(EngineError):
    """The name is taken. `owner` is the canonical id of the bucket's owner."""

    def __init__(self, owner: str) -> None:
        super().__init__("the bucket name is taken")
        self.owner = owner


class BucketNotEmpty(EngineError):
    pass


class TooManyBuckets(EngineError):
    """The owner has as many buckets as it may own."""


class NoSuchKey(EngineError):
    pass


class NoSuchVersion(EngineError):
    pass


class IsDeleteMarker(EngineError):
    """The version is a delete marker. `latest` tells whether it was reached without a version id."""

    def __init__(self, info: ObjectInfo) -> None:
        super().__init__("the version is a delete marker")
        self.info = info


class NoSuchUpload(EngineError):
    pass


class InvalidPart(EngineError):
    def __init__(self, number: int) -> None:
        super().__init__(f"part {number} is unknown or its ETag or checksum differs")
        self.number = number


class InvalidPartOrder(EngineError):
    pass


class PartTooSmall(EngineError):
    def __init__(self, number: int, size: int, minimum: int, etag: str = "") -> None:
        super().__init__(f"part {number} has {size} bytes, the minimum is {minimum}")
        self.number, self.size, self.minimum, self.etag = number, size, minimum, etag


class PreconditionFailed(EngineError):
    """`condition` is the name S3 prints in <Condition>."""

    def __init__(self, condition: str) -> None:
        super().__init__(f"the condition {condition} does not hold")
        self.condition = condition


class ConditionalConflict(EngineError):
    """A concurrent change made the condition undecidable; the client may retry (S3: 409 ConditionalRequestConflict)."""


class Unavailable(EngineError):
    """Not enough nodes answer to write or to read now."""


class RootKeyRotated(EngineError):
    """A bucket's key lies under another root key than this process has: the root was rotated elsewhere."""


class Damaged(EngineError):
    """Enough nodes answered, but no combination gives the bytes that were written."""


class StorageFull(EngineError):
    """Too few nodes have space for the write."""
