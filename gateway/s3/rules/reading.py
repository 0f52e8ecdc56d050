"""What GET and HEAD of an object share: which bytes are asked for, and the headers that describe them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from core.access import PrincipalKind
from core.buffers import Buffer
from core.http.conditionals import range_still_holds
from core.http.ranges import ByteRange, RangeError, parse_range
from engine.types import Bucket, ObjectInfo, Part
from gateway.s3.access import check_version_id, find_bucket, open_latest, open_readable
from gateway.s3.checksums import output_members
from gateway.s3.contract import Readable, S3Request, S3Response, Services
from gateway.s3.errors import S3Error
from gateway.s3.rules.attributes import put_attributes
from gateway.s3.rules.conditions import READ_CONDITIONS, failed_read
from gateway.s3.rules.versions import printed_version
from gateway.s3.values import http_date

_CHOOSING = frozenset({"PartNumber", "Range", *READ_CONDITIONS})
_NOT_MODIFIED = ("If-None-Match", "If-Modified-Since")

_OVERRIDES = {
    "ResponseCacheControl": "CacheControl",
    "ResponseContentDisposition": "ContentDisposition",
    "ResponseContentEncoding": "ContentEncoding",
    "ResponseContentLanguage": "ContentLanguage",
    "ResponseContentType": "ContentType",
    "ResponseExpires": "Expires",
}


class Slice(msgspec.Struct, frozen=True, gc=False):
    """The bytes that a read asks for. `content_range` is "" when the answer is a plain 200."""

    offset: int
    length: int
    content_range: str = ""
    part: Part | None = None


def response_overrides(request: S3Request) -> dict[str, str]:
    """Output members that `response-*` parameters set. Raises S3Error InvalidRequest for an anonymous caller, who could
    else make us say anything about anybody's public object."""
    params = request.params
    found = {member: params[name] for name, member in _OVERRIDES.items() if params.get(name)}
    if found and request.principal.kind is PrincipalKind.ANONYMOUS:
        raise S3Error("InvalidRequest", "Request specific response headers cannot be used for anonymous GET requests.")
    return found


def whole(request: S3Request, opened: Readable) -> Slice | None:
    """All bytes, where the request has neither conditions nor a choice: most have not. None for any other."""
    return Slice(0, opened.info.size) if _CHOOSING.isdisjoint(request.params) else None


async def choose_slice(request: S3Request, opened: Readable) -> Slice:
    """The bytes that Range or partNumber name. Raises S3Error InvalidRange, InvalidRequest, InvalidArgument, and
    the engine's InvalidPart."""
    info, params = opened.info, request.params
    number, header = params.get("PartNumber"), params.get("Range")
    if number is not None:
        if header:
            raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
        if not 1 <= number <= 10_000:
            raise S3Error(
                "InvalidArgument",
                "Part number must be an integer between 1 and 10000, inclusive",
                fields={"ArgumentName": "partNumber", "ArgumentValue": str(number)},
            )
        offset, part = await opened.part(number)
        if part.size == 0:
            return Slice(0, 0, part=part)
        return Slice(offset, part.size, ByteRange(offset, part.size, info.size).content_range, part)
    if not header or not range_still_holds(request.headers.get("if-range"), info.etag, info.modified_us):
        return Slice(0, info.size)
    wanted = parse_range(header, info.size)
    if isinstance(wanted, ByteRange):
        return Slice(wanted.offset, wanted.length, wanted.content_range)
    if wanted is RangeError.UNSATISFIABLE:
        raise S3Error(
            "InvalidRange",
            fields={"RangeRequested": header, "ActualObjectSize": str(info.size)},
            headers={"Content-Range": f"bytes */{info.size}"},
        )
    return Slice(0, info.size)


def describe(request: S3Request, bucket: Bucket, info: ObjectInfo, part: Slice) -> S3Response:
    """The answer to GET or HEAD, but for its body."""
    output: dict[str, Any] = {
        "AcceptRanges": "bytes",
        "LastModified": info.modified_us,
        "ETag": info.etag,
        "VersionId": printed_version(bucket, info.version_id),
        "ServerSideEncryption": "AES256",
    }
    put_attributes(output, info)
    if part.part is not None and info.parts_count:
        output["PartsCount"] = info.parts_count
    if request.params.get("ChecksumMode") == "ENABLED":
        if part.part is not None:
            output.update(output_members(part.part.checksums or info.checksums, info.checksum_type))
        elif not part.content_range:
            output.update(output_members(info.checksums, info.checksum_type))
    if not _OVERRIDES.keys().isdisjoint(request.params):
        output.update(response_overrides(request))
    response = S3Response(output, length=part.length)
    if part.content_range:
        response.status = 206
        output["ContentRange"] = part.content_range
    return response


def judge_conditions(request: S3Request, bucket: Bucket, info: ObjectInfo) -> S3Response | None:
    """The answer 304 when the client has the object already, None to go on. Raises S3Error PreconditionFailed."""
    failed = failed_read(request.params, info)
    if not failed:
        return None
    if failed not in _NOT_MODIFIED:
        raise S3Error("PreconditionFailed", fields={"Condition": failed})
    headers = {"ETag": f'"{info.etag}"', "Last-Modified": http_date(info.modified_us)}
    for name in ("Cache-Control", "Expires"):
        if name in info.attributes.headers:
            headers[name] = info.attributes.headers[name]
    if version := printed_version(bucket, info.version_id):
        headers["x-amz-version-id"] = version
    return S3Response(status=304, headers=headers, body=b"", length=0)


async def open_requested(services: Services, request: S3Request) -> tuple[Bucket, Readable]:
    """The request's bucket and object, opened, once the caller may read it."""
    params = request.params
    if not params.get("VersionId"):
        return await open_latest(services, request, "s3:GetObject")
    bucket = await find_bucket(services, request.bucket, params.get("ExpectedBucketOwner"))
    version_id = check_version_id(params["VersionId"])
    opened = await open_readable(
        services, request, "s3:GetObject", bucket=bucket, key=request.key, version_id=version_id
    )
    return bucket, opened


class ObjectStream:
    """An object's bytes on their way out; lets the object go when it ends or is closed, also before it began."""

    __slots__ = ("_first", "_opened", "_source")

    def __init__(self, opened: Readable, source: AsyncIterator[Buffer], first: Buffer) -> None:
        self._opened = opened
        self._source = source
        self._first: Buffer | None = first

    def __aiter__(self) -> ObjectStream:
        return self

    async def __anext__(self) -> Buffer:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            return await anext(self._source)
        except BaseException:
            self._opened.close()
            raise

    async def aclose(self) -> None:
        self._first = None
        try:
            close = getattr(self._source, "aclose", None)
            if close is not None:
                await close()
        finally:
            self._opened.close()


async def stream(opened: Readable, offset: int, length: int) -> ObjectStream:
    """The bytes as a stream that has begun: when there are too few nodes, it is known before any header is sent."""
    source = opened.read(offset, length)
    return ObjectStream(opened, source, await anext(source))
