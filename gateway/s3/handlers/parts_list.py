"""ListParts."""

from __future__ import annotations

from typing import Any

from gateway.s3.checksums import output_members
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.rules.acl import owner_output
from gateway.s3.rules.multipart import require_upload
from gateway.s3.rules.paging import page_limit


async def list_parts(services: Services, request: S3Request) -> S3Response:
    params = request.params
    limit = page_limit(params, "MaxParts", "max-parts")
    marker = int(params.get("PartNumberMarker") or 0)
    bucket, upload = await require_upload(services, request, "s3:ListMultipartUploadParts")
    listing = await services.store.list_parts(bucket, request.key, upload.upload_id, after=marker, limit=limit)
    declared = upload.checksum_algorithm
    parts: list[dict[str, Any]] = []
    for part in listing.parts:
        entry: dict[str, Any] = {
            "PartNumber": part.number,
            "LastModified": part.modified_us,
            "ETag": part.etag,
            "Size": part.size,
        }
        if declared:
            entry.update(output_members(part.checksums, None))
        parts.append(entry)
    return S3Response(
        {
            "Bucket": bucket.name,
            "Key": request.key,
            "UploadId": upload.upload_id,
            "PartNumberMarker": marker,
            "NextPartNumberMarker": listing.parts[-1].number if listing.parts else marker,
            "MaxParts": limit,
            "IsTruncated": listing.truncated,
            "Parts": parts,
            "Initiator": owner_output(upload.initiator, services.users),
            "Owner": owner_output(upload.attributes.owner, services.users),
            "StorageClass": upload.attributes.storage_class,
            "ChecksumAlgorithm": declared or None,
            "ChecksumType": None if upload.checksum_type is None else upload.checksum_type.value,
        }
    )
