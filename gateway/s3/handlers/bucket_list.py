"""ListBuckets."""

from __future__ import annotations

from typing import Any

from core.access import PrincipalKind
from gateway.s3.access import require_service
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.errors import S3Error
from gateway.s3.rules.acl import owner_output
from gateway.s3.rules.paging import decode_token, encode_token

_MOST = 10_000


async def list_buckets(services: Services, request: S3Request) -> S3Response:
    await require_service(services, request, "s3:ListAllMyBuckets")
    params = request.params
    limit = params.get("MaxBuckets")
    if limit is not None and not 1 <= limit <= _MOST:
        raise S3Error(
            "InvalidArgument",
            f"max-buckets must be between 1 and {_MOST}",
            fields={"ArgumentName": "max-buckets", "ArgumentValue": str(limit)},
        )
    principal = request.principal
    prefix = params.get("Prefix") or ""
    output: dict[str, Any] = {"Owner": owner_output(principal.id, services.users), "Buckets": []}
    if params.get("Prefix") is not None:
        output["Prefix"] = prefix
    region = services.settings.region
    if params.get("BucketRegion") not in (None, region):
        return S3Response(output)
    buckets, after = await services.store.list_buckets(
        owner=None if principal.kind is PrincipalKind.ROOT else principal.id,
        prefix=prefix,
        after=decode_token(params.get("ContinuationToken")),
        limit=limit or _MOST,
    )
    output["Buckets"] = [
        {"Name": bucket.name, "CreationDate": bucket.created_us, "BucketRegion": bucket.location or region}
        for bucket in buckets
    ]
    if after:
        output["ContinuationToken"] = encode_token(after)
    return S3Response(output)
