"""UploadPartCopy."""

from __future__ import annotations

import re
from typing import Any

from engine.open import OpenObject
from engine.types import ChecksumType, Outcome
from gateway.s3.checksums import output_members
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.errors import S3Error
from gateway.s3.rules.copying import digest_range, open_source, parse_copy_source
from gateway.s3.rules.multipart import check_part_number, part_algorithm, require_upload
from gateway.s3.rules.versions import printed_version

_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})")


def _source_range(header: str | None, size: int) -> tuple[int, int]:
    """(offset, length). Raises S3Error InvalidArgument for another form than `bytes=first-last`, InvalidRange for one
    that is not inside the source."""
    if not header:
        return 0, size
    match = _RANGE.fullmatch(header.strip())
    first, last = (int(match[1]), int(match[2])) if match else (1, 0)
    if first > last:
        raise S3Error(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy",
            fields={"ArgumentName": "x-amz-copy-source-range", "ArgumentValue": header},
        )
    if last >= size:
        raise S3Error(
            "InvalidRange",
            f"Range specified is not valid for source object of size: {size}",
            fields={"RangeRequested": header, "ActualObjectSize": str(size)},
        )
    return first, last - first + 1


async def upload_part_copy(services: Services, request: S3Request) -> S3Response:
    params = request.params
    number = check_part_number(params["PartNumber"])
    source = parse_copy_source(params["CopySource"])
    bucket, upload = await require_upload(services, request, "s3:PutObject")
    source_bucket, opened = await open_source(services, request, source)
    async with opened:
        offset, length = _source_range(params.get("CopySourceRange"), opened.info.size)
        if length > services.settings.max_object_size:
            raise S3Error(
                "InvalidRequest",
                "The specified copy source is larger than the maximum allowable size for a copy source: "
                f"{services.settings.max_object_size}",
            )
        part = await services.store.upload_part_copy(
            bucket,
            request.key,
            upload.upload_id,
            number,
            opened,
            offset,
            length,
            outcome=await _outcome(opened, offset, length, part_algorithm(upload)),
        )
    result: dict[str, Any] = {"ETag": part.etag, "LastModified": part.modified_us}
    result.update(output_members(part.checksums, None))
    return S3Response(
        {
            "CopyPartResult": result,
            "CopySourceVersionId": printed_version(source_bucket, opened.info.version_id),
            "ServerSideEncryption": "AES256",
        }
    )


async def _outcome(opened: OpenObject, offset: int, length: int, algorithm: str) -> Outcome:
    """ETag and checksum of the range; known already when it is the whole of an object that was put in one piece."""
    info = opened.info
    whole = offset == 0 and length == info.size
    if whole and not info.parts_count and algorithm in info.checksums:
        return Outcome(info.etag, {algorithm: info.checksums[algorithm]}, ChecksumType.FULL_OBJECT)
    return await digest_range(opened, offset, length, algorithm)
