"""What the S3 edge and its handlers say to each other.

The edge routes, authenticates, refuses what is not implemented and parses everything but the body; a handler decides
access, reads the body, acts and returns model members, which the edge renders. Names of operations and members are
those of botocore's S3 service model.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from accounts.types import User
from core.access import Authorizer, Principal
from core.buffers import Buffer, Source
from core.clock import Clock
from gateway.s3.errors import S3Error

if TYPE_CHECKING:
    from core.http.connection import Request
    from engine.store import ObjectStore
    from engine.types import Bucket, Listing, ObjectInfo, Part

__all__ = [
    "Arrivals",
    "BucketCheck",
    "Handler",
    "KeyDirectory",
    "Lister",
    "Readable",
    "RequestBody",
    "RequestObserver",
    "S3Error",
    "S3Request",
    "S3Response",
    "S3Settings",
    "Services",
    "User",
    "UserDirectory",
]


class RequestBody(Protocol):
    """A request's payload, decoded (no aws-chunked framing) and verified while it flows.

    Nothing is read from the client, and no `100 Continue` is sent, before the source is first pulled.
    """

    #: Decoded length as declared by the client; None when HTTP chunking is used without one.
    length: int | None
    #: Trailing headers by lower-case name; complete once the source has ended.
    trailers: Mapping[str, str]
    #: Lower-case names that `x-amz-trailer` announced.
    announced: tuple[str, ...]

    def source(self) -> Source:
        """The plaintext, once. Raises S3Error for a wrong chunk signature (before the chunk's bytes are given), wrong
        framing, a length other than declared, a wrong `x-amz-content-sha256`, a client that went away or is too
        slow."""
        ...

    def whole(self) -> bytes | None:
        """All of the plaintext, instead of `source`, where it has come already and needs no decoding: a small body
        comes with its head. None for any other. Raises what `source` does."""
        ...

    def take_payload_hash(self) -> str:
        """The hex SHA-256 that the client signed for the whole payload, "" when there is none. Once taken, the source
        leaves its verification to the caller (which computes it in threads beside the pipeline)."""
        ...


class S3Request(msgspec.Struct):
    """One authenticated request to one implemented operation."""

    operation: str  # model name, such as "PutObject"
    params: dict[str, Any]  # members from path, query and headers; the XML payload only after `await document()`
    body: RequestBody
    principal: Principal
    request_id: str
    bucket: str  # "" for the service
    key: str  # "" for a bucket
    secure: bool
    source_ip: str
    http: Request
    #: Every header by lower-case name, repeated ones joined by commas; for a presigned request also the `x-amz-*`
    #: members that the client put into the query.
    headers: Mapping[str, str]
    read_document: Callable[[S3Request], Awaitable[dict[str, Any]]]

    async def document(self) -> dict[str, Any]:
        """Read, verify (Content-MD5, checksums, payload hash) and parse the XML payload: `Delete`,
        `CompleteMultipartUpload` (member `MultipartUpload`), `CreateBucketConfiguration`, ...

        Returns the payload member's value ({} when the body is empty) and also puts it into `params` under its member
        name. To be called after access was decided. Raises S3Error (MalformedXML, BadDigest, ...).
        """
        return await self.read_document(self)


class S3Response(msgspec.Struct):
    """What a handler answers.

    `output` has the operation's output members (ETags bare or quoted, datetimes or epoch microseconds for timestamps;
    members that are None are left out; a long list of structures may be a `gateway.s3.tables.Table`). A `body` replaces
    the XML: bytes, or an iterator of exactly `length` bytes that is closed whatever happens. The edge does the
    following for every operation, so handlers need not: quote ETags; apply `encoding-type=url` to the keys, prefixes,
    delimiters and markers of listings (give them plain); print an item of `Versions` that has `"DeleteMarker": True` as
    a DeleteMarker element, in place, so that versions and markers can be given in one ordered list.
    """

    output: dict[str, Any] = {}
    status: int | None = None  # None: the model's
    headers: dict[str, str] = {}  # extra, or overriding what the model renders
    #: A buffer once given must not be changed: the socket may still hold it.
    body: bytes | memoryview | AsyncIterator[Buffer] | None = None
    length: int | None = None  # of `body`; for HEAD the length to announce


Handler = Callable[[S3Request], Awaitable[S3Response]]

#: Looks the request's bucket up and asks the authorizer for the named IAM action on it; raises S3Error (NoSuchBucket,
#: AccessDenied). Guards the fixed answers for configurations that can't be set.
BucketCheck = Callable[[S3Request, str], Awaitable[object]]

#: Called once per request when its answer was written: operation name ("" when none was found), HTTP status, seconds,
#: bytes received, bytes sent.
RequestObserver = Callable[[str, int, float, int, int], None]


class KeyDirectory(Protocol):
    """Access keys, in memory: asked on every request."""

    def lookup(self, access_key_id: str) -> tuple[Principal, str] | None:
        """The key's principal and secret; None for an unknown, disabled or revoked key."""
        ...

    async def catch_up(self) -> None:
        """Learn what other processes have changed until now: a key that was just made must not be refused."""
        ...


class UserDirectory(Protocol):
    def by_id(self, canonical_id: str) -> User | None: ...

    def by_email(self, email: str) -> User | None: ...


@dataclass(frozen=True, slots=True)
class S3Settings:
    """What the S3 edge can be told."""

    region: str = "us-east-1"
    #: Host names under which `bucket.<domain>` addresses a bucket; lower-case, without port.
    base_domains: tuple[str, ...] = ("localhost",)
    #: Seconds that a request's date may be off.
    clock_skew: int = 900
    max_object_size: int = 5 << 30  # one PUT or part
    max_metadata_size: int = 2048


class Lister(Protocol):
    """Gives pages of a bucket's objects, as `ObjectStore.list_objects`."""

    async def list_objects(self, bucket: Bucket, *, prefix: str, delimiter: str, after: str, limit: int) -> Listing: ...


class Readable(Protocol):
    """What GET and HEAD need of an object, as `engine.open.OpenObject` has it."""

    @property
    def info(self) -> ObjectInfo: ...

    def close(self) -> None: ...

    async def part(self, number: int) -> tuple[int, Part]: ...

    def read(self, offset: int, length: int) -> AsyncIterator[Buffer]: ...

    async def fetch(self, offset: int, length: int) -> bytes: ...


class Arrivals(Lister, Protocol):
    """Objects of buckets that a migration fills and that still lie at its source; asked only for buckets that have
    settings. Lists them among the others, as if all were here."""

    async def bring(self, bucket: Bucket, key: str) -> bool:
        """Fetch the key from the source, if it has one to read through to; whether it may be here now. Raises S3Error
        ServiceUnavailable where the source can't be had: that a key does not exist is said only when it's known."""
        ...

    async def look(self, bucket: Bucket, key: str, *, head: bool) -> Readable | None:
        """The key where it is still, for a HEAD or where it is too large to be waited for; None for one to `bring`.
        Raises S3Error ServiceUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers work with."""

    store: ObjectStore
    authorizer: Authorizer
    users: UserDirectory
    settings: S3Settings
    clock: Clock
    arrivals: Arrivals | None = None
