"""What CopyObject and UploadPartCopy share: naming, opening and digesting the source."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import unquote

from engine.errors import IsDeleteMarker, NoSuchKey, NoSuchVersion
from engine.open import OpenObject
from engine.types import Bucket, ChecksumType, Outcome
from gateway.s3.access import arrived, check_version_id, find_bucket, open_here, refuse_missing, require_object
from gateway.s3.checksums import RunningDigest, encode, new_digest
from gateway.s3.contract import S3Request, Services
from gateway.s3.errors import S3Error
from gateway.s3.rules.conditions import check_source
from gateway.s3.rules.naming import check_key

_VERSION_MARK = "?versionId="


@dataclass(frozen=True, slots=True)
class CopySource:
    """What `x-amz-copy-source` names."""

    bucket: str
    key: str
    version_id: str


def parse_copy_source(header: str) -> CopySource:
    """`[/]bucket/key[?versionId=id]`, percent-encoded. Raises S3Error InvalidArgument."""
    path, mark, version_id = header.rpartition(_VERSION_MARK)
    if not mark:
        path, version_id = header, ""
    try:
        decoded = unquote(path, errors="strict")
    except UnicodeDecodeError:
        decoded = ""
    bucket, _, key = decoded.removeprefix("/").partition("/")
    if not bucket or not key or (mark and not version_id):
        raise S3Error(
            "InvalidArgument",
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            fields={"ArgumentName": "x-amz-copy-source", "ArgumentValue": header},
        )
    check_key(key)
    return CopySource(bucket, key, check_version_id(unquote(version_id)))


async def open_source(services: Services, request: S3Request, source: CopySource) -> tuple[Bucket, OpenObject]:
    """The source, opened, once the caller may read it and the source's conditions hold. The caller closes it."""
    bucket = await find_bucket(services, source.bucket, request.params.get("ExpectedSourceBucketOwner"))
    try:
        opened = await services.store.open_object(bucket, source.key, source.version_id)
    except IsDeleteMarker as error:
        if not source.version_id:
            await refuse_missing(services, request, bucket, source.key, "", NoSuchKey())
        raise S3Error(
            "InvalidRequest",
            "The source of a copy request may not specifically refer to a delete marker by version id.",
        ) from error
    except (NoSuchKey, NoSuchVersion) as error:
        if not await arrived(services, request, bucket, source.key, source.version_id, error):
            await refuse_missing(services, request, bucket, source.key, source.version_id, error)
        opened = await open_here(services, request, bucket, source.key, source.version_id)
    try:
        await require_object(services, request, "s3:GetObject", bucket, source.key, source.version_id, opened.info)
        check_source(request.params, opened.info)
    except BaseException:
        opened.close()
        raise
    return bucket, opened


async def digest_range(opened: OpenObject, offset: int, length: int, algorithm: str) -> Outcome:
    """The MD5 ETag of a range, and its checksum by `algorithm` ("" for none). Reads every byte of it."""
    etag = new_digest("MD5")
    checksum = new_digest(algorithm) if algorithm else None
    digests: tuple[RunningDigest, ...] = (etag,) if checksum is None else (etag, checksum)

    def update(view: memoryview) -> None:
        for digest in digests:
            digest.update(view)

    if length:
        async for view in opened.read(offset, length):
            await asyncio.to_thread(update, view)
    if checksum is None:
        return Outcome(etag.digest().hex())
    return Outcome(etag.digest().hex(), {algorithm: encode(checksum.digest())}, ChecksumType.FULL_OBJECT)
