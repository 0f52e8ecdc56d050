"""ListObjectVersions."""

from __future__ import annotations

from typing import Any

from engine.errors import NoSuchVersion
from gateway.s3.access import require_bucket
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.errors import S3Error
from gateway.s3.rules.paging import check_encoding, page_limit
from gateway.s3.rules.rows import prefix_rows, version_rows


def _invalid_marker(message: str, marker: str) -> S3Error:
    return S3Error("InvalidArgument", message, fields={"ArgumentName": "version-id-marker", "ArgumentValue": marker})


async def list_object_versions(services: Services, request: S3Request) -> S3Response:
    bucket = await require_bucket(services, request, "s3:ListBucketVersions")
    params = request.params
    limit = page_limit(params, "MaxKeys", "max-keys")
    prefix, delimiter = params.get("Prefix") or "", params.get("Delimiter") or ""
    key_marker, version_marker = params.get("KeyMarker") or "", params.get("VersionIdMarker") or ""
    if version_marker and not key_marker:
        raise _invalid_marker("A version-id marker cannot be specified without a key marker.", version_marker)
    try:
        listing = await services.store.list_versions(
            bucket,
            prefix=prefix,
            delimiter=delimiter,
            key_marker=key_marker,
            version_marker=version_marker,
            limit=limit,
        )
    except NoSuchVersion:
        raise _invalid_marker("Invalid version id specified", version_marker) from None
    output: dict[str, Any] = {
        "Name": bucket.name,
        "Prefix": prefix,
        "Delimiter": delimiter or None,
        "MaxKeys": limit,
        "EncodingType": check_encoding(params),
        "KeyMarker": key_marker,
        "VersionIdMarker": version_marker,
        "IsTruncated": listing.truncated,
        "Versions": version_rows(listing.versions, services.users),
        "CommonPrefixes": prefix_rows(listing.prefixes),
    }
    if listing.truncated:
        output["NextKeyMarker"] = listing.next_key
        output["NextVersionIdMarker"] = listing.next_version_id or None
    return S3Response(output)
