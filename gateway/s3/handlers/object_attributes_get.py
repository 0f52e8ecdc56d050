"""GetObjectAttributes."""

from __future__ import annotations

from typing import Any

from engine.open import OpenObject
from gateway.s3.access import check_version_id, find_bucket, open_object
from gateway.s3.checksums import output_members
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.errors import S3Error
from gateway.s3.rules.paging import page_limit
from gateway.s3.rules.versions import printed_version

_KNOWN = frozenset({"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"})


def _wanted(params: dict[str, Any]) -> frozenset[str]:
    names = frozenset(params.get("ObjectAttributes") or ())
    if not names or not names <= _KNOWN:
        raise S3Error(
            "InvalidArgument",
            "Invalid attribute name specified.",
            fields={"ArgumentName": "x-amz-object-attributes", "ArgumentValue": ",".join(sorted(names))},
        )
    return names


async def get_object_attributes(services: Services, request: S3Request) -> S3Response:
    params = request.params
    wanted = _wanted(params)
    limit = page_limit(params, "MaxParts", "max-parts")
    bucket = await find_bucket(services, request.bucket, params.get("ExpectedBucketOwner"))
    version_id = check_version_id(params.get("VersionId"))
    opened = await open_object(
        services,
        request,
        "s3:GetObject",
        "s3:GetObjectAttributes",
        bucket=bucket,
        key=request.key,
        version_id=version_id,
    )
    async with opened:
        info = opened.info
        output: dict[str, Any] = {
            "LastModified": info.modified_us,
            "VersionId": printed_version(bucket, info.version_id),
        }
        if "ETag" in wanted:
            output["ETag"] = info.etag
        if "Checksum" in wanted and info.checksums:
            output["Checksum"] = output_members(info.checksums, info.checksum_type)
        if "ObjectParts" in wanted and info.parts_count:
            output["ObjectParts"] = await _parts(opened, params.get("PartNumberMarker") or 0, limit)
        if "StorageClass" in wanted:
            output["StorageClass"] = info.attributes.storage_class
        if "ObjectSize" in wanted:
            output["ObjectSize"] = info.size
        return S3Response(output)


async def _parts(opened: OpenObject, marker: int, limit: int) -> dict[str, Any]:
    """One page of a multipart object's parts."""
    found = await opened.parts(marker, limit + 1)
    page = found[:limit]
    return {
        "TotalPartsCount": opened.info.parts_count,
        "PartNumberMarker": marker,
        "NextPartNumberMarker": page[-1].number if page else marker,
        "MaxParts": limit,
        "IsTruncated": len(found) > limit,
        "Parts": [
            {"PartNumber": part.number, "Size": part.size, **output_members(part.checksums, None)} for part in page
        ],
    }
