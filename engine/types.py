"""What the object store takes and gives: plain values, no behaviour.

Times are wall-clock microseconds since the Unix epoch; sizes are plaintext bytes; ETags are bare (no quotes); checksum
values are base64 as S3 prints them, keyed by S3's algorithm name (`CRC32`, `SHA256`, `CRC64NVME`, ...). What every
request makes is a msgspec Struct: a frozen dataclass takes five times as long to make.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from core.buffers import Buffer

NULL_VERSION = "null"


class Versioning(enum.Enum):
    UNVERSIONED = "unversioned"
    ENABLED = "enabled"
    SUSPENDED = "suspended"


class ChecksumType(enum.Enum):
    FULL_OBJECT = "FULL_OBJECT"
    COMPOSITE = "COMPOSITE"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket. `id` is its identity for ever: a bucket made again under the same name is another one."""

    id: bytes
    name: str
    owner: str  # canonical id
    created_us: int
    location: str  # LocationConstraint as given at creation; "" for none
    versioning: Versioning = Versioning.UNVERSIONED
    acl: str = "private"
    settings: dict[str, bytes] = field(default_factory=dict)  # subresource name -> its document, later features


class ObjectAttributes(msgspec.Struct, frozen=True, gc=False):
    """What a writer says of an object beside its bytes."""

    owner: str = ""
    acl: str = "private"
    storage_class: str = "STANDARD"
    headers: dict[str, str] = {}  # Content-Type, Cache-Control, ... Expires
    metadata: dict[str, str] = {}  # x-amz-meta-*: lower-case name without the prefix -> value
    tags: tuple[tuple[str, str], ...] = ()


class Digest(Protocol):
    """A running digest over the plaintext, updated in order from worker threads, never from two at once."""

    def update(self, data: Buffer, /) -> None: ...


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What the protocol concludes once all bytes were digested."""

    etag: str
    checksums: dict[str, str] = {}
    checksum_type: ChecksumType | None = None


#: Called with the body's length after the last byte was digested and before anything is committed. Raising refuses
#: the write: nothing is stored and the error propagates to the caller.
Finish = Callable[[int], Outcome]


class WriteCondition(msgspec.Struct, frozen=True, gc=False):
    """`If-None-Match: *` and `If-Match` on writes and deletes, judged inside the committing transaction."""

    absent: bool = False  # If-None-Match: *
    etag: str = ""  # If-Match; "*" = any existing object
    size: int | None = None  # x-amz-if-match-size (deletes)
    modified_us: int | None = None  # x-amz-if-match-last-modified-time (deletes), whole seconds
    other_than: str = ""  # If-None-Match with an ETag: refused while the object has it


UNCONDITIONAL = WriteCondition()


class Part(msgspec.Struct, frozen=True, gc=False):
    """A part of a multipart object, or of an upload in progress."""

    number: int
    size: int
    etag: str
    checksums: dict[str, str] = {}
    modified_us: int = 0


class ObjectInfo(msgspec.Struct, frozen=True, gc=False):
    """One version of one key, as HEAD prints it."""

    key: str
    version_id: str  # public id, or "null"
    is_latest: bool
    delete_marker: bool
    size: int
    etag: str
    modified_us: int
    attributes: ObjectAttributes
    checksums: dict[str, str] = {}
    checksum_type: ChecksumType | None = None
    parts_count: int = 0  # 0 for an object that was not made by multipart


class ListedObject(msgspec.Struct, frozen=True, gc=False):
    """One row of a listing: what a listing prints and no more."""

    key: str
    version_id: str
    is_latest: bool
    delete_marker: bool
    size: int
    etag: str
    modified_us: int
    owner: str
    storage_class: str
    checksum_algorithms: tuple[str, ...] = ()
    checksum_type: ChecksumType | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of objects. `next_key` is where the next page starts *after*: a key or a common prefix; "" at the end."""

    objects: Sequence[ListedObject]
    prefixes: Sequence[str]
    truncated: bool
    next_key: str = ""


@dataclass(frozen=True, slots=True)
class VersionListing:
    """A page of versions and delete markers in S3's order: key ascending, newest first."""

    versions: Sequence[ListedObject]
    prefixes: Sequence[str]
    truncated: bool
    next_key: str = ""
    next_version_id: str = ""


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload in progress."""

    key: str
    upload_id: str
    initiated_us: int
    initiator: str
    attributes: ObjectAttributes
    checksum_algorithm: str = ""  # "" = the client named none
    checksum_type: ChecksumType | None = None


@dataclass(frozen=True, slots=True)
class UploadListing:
    uploads: Sequence[Upload]
    prefixes: Sequence[str]
    truncated: bool
    next_key: str = ""
    next_upload_id: str = ""


@dataclass(frozen=True, slots=True)
class PartListing:
    upload: Upload
    parts: Sequence[Part]
    truncated: bool
    next_number: int = 0


class CompletePart(msgspec.Struct, frozen=True, gc=False):
    """A part as the client names it in Complete."""

    number: int
    etag: str
    checksums: dict[str, str] = {}


class DeleteResult(msgspec.Struct, frozen=True, gc=False):
    """What a delete did: `version_id` is of the removed version or of the marker made; "" on an unversioned bucket."""

    version_id: str = ""
    delete_marker: bool = False
    removed: ObjectInfo | None = None
