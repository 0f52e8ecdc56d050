"""ListObjects, the first version."""

from __future__ import annotations

from typing import Any

from gateway.s3.access import lister, require_bucket
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.rules.paging import check_encoding, page_limit
from gateway.s3.rules.rows import object_rows, prefix_rows


async def list_objects(services: Services, request: S3Request) -> S3Response:
    bucket = await require_bucket(services, request, "s3:ListBucket")
    params = request.params
    limit = page_limit(params, "MaxKeys", "max-keys")
    prefix, delimiter = params.get("Prefix") or "", params.get("Delimiter") or ""
    marker = params.get("Marker") or ""
    listing = await lister(services, bucket).list_objects(
        bucket, prefix=prefix, delimiter=delimiter, after=marker, limit=limit
    )
    output: dict[str, Any] = {
        "Name": bucket.name,
        "Prefix": prefix,
        "Marker": marker,
        "Delimiter": delimiter or None,
        "MaxKeys": limit,
        "EncodingType": check_encoding(params),
        "IsTruncated": listing.truncated,
        "Contents": object_rows(listing.objects, services.users),
        "CommonPrefixes": prefix_rows(listing.prefixes),
    }
    if listing.truncated and delimiter:
        output["NextMarker"] = listing.next_key
    return S3Response(output)
