"""ListObjectsV2."""

from __future__ import annotations

from typing import Any

from gateway.s3.access import lister, require_bucket
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.rules.paging import check_encoding, decode_token, encode_token, page_limit
from gateway.s3.rules.rows import object_rows, prefix_rows


async def list_objects_v2(services: Services, request: S3Request) -> S3Response:
    bucket = await require_bucket(services, request, "s3:ListBucket")
    params = request.params
    limit = page_limit(params, "MaxKeys", "max-keys")
    prefix, delimiter = params.get("Prefix") or "", params.get("Delimiter") or ""
    token, start_after = params.get("ContinuationToken"), params.get("StartAfter")
    listing = await lister(services, bucket).list_objects(
        bucket,
        prefix=prefix,
        delimiter=delimiter,
        after=decode_token(token) or start_after or "",
        limit=limit,
    )
    output: dict[str, Any] = {
        "Name": bucket.name,
        "Prefix": prefix,
        "Delimiter": delimiter or None,
        "MaxKeys": limit,
        "EncodingType": check_encoding(params),
        "KeyCount": len(listing.objects) + len(listing.prefixes),
        "IsTruncated": listing.truncated,
        "ContinuationToken": token,
        "StartAfter": start_after or None,
        "Contents": object_rows(listing.objects, services.users if params.get("FetchOwner") else None),
        "CommonPrefixes": prefix_rows(listing.prefixes),
    }
    if listing.truncated:
        output["NextContinuationToken"] = encode_token(listing.next_key)
    return S3Response(output)
