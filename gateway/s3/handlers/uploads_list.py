"""ListMultipartUploads."""

from __future__ import annotations

from typing import Any

from engine.types import Upload
from gateway.s3.access import require_bucket
from gateway.s3.contract import S3Request, S3Response, Services, UserDirectory
from gateway.s3.rules.acl import owner_output
from gateway.s3.rules.paging import check_encoding, page_limit
from gateway.s3.rules.rows import prefix_rows


def _row(upload: Upload, users: UserDirectory) -> dict[str, Any]:
    return {
        "UploadId": upload.upload_id,
        "Key": upload.key,
        "Initiated": upload.initiated_us,
        "StorageClass": upload.attributes.storage_class,
        "Owner": owner_output(upload.attributes.owner, users),
        "Initiator": owner_output(upload.initiator, users),
        "ChecksumAlgorithm": upload.checksum_algorithm or None,
        "ChecksumType": None if upload.checksum_type is None else upload.checksum_type.value,
    }


async def list_multipart_uploads(services: Services, request: S3Request) -> S3Response:
    bucket = await require_bucket(services, request, "s3:ListBucketMultipartUploads")
    params = request.params
    limit = page_limit(params, "MaxUploads", "max-uploads")
    prefix, delimiter = params.get("Prefix") or "", params.get("Delimiter") or ""
    key_marker = params.get("KeyMarker") or ""
    # S3 reads an upload id marker only beside a key marker.
    upload_marker = (params.get("UploadIdMarker") or "") if key_marker else ""
    listing = await services.store.list_uploads(
        bucket,
        prefix=prefix,
        delimiter=delimiter,
        key_marker=key_marker,
        upload_marker=upload_marker,
        limit=limit,
    )
    output: dict[str, Any] = {
        "Bucket": bucket.name,
        "KeyMarker": key_marker,
        "UploadIdMarker": upload_marker,
        "Prefix": prefix or None,
        "Delimiter": delimiter or None,
        "MaxUploads": limit,
        "IsTruncated": listing.truncated,
        "Uploads": [_row(upload, services.users) for upload in listing.uploads],
        "CommonPrefixes": prefix_rows(listing.prefixes),
        "EncodingType": check_encoding(params),
    }
    if listing.truncated:
        output["NextKeyMarker"] = listing.next_key
        output["NextUploadIdMarker"] = listing.next_upload_id
    return S3Response(output)
