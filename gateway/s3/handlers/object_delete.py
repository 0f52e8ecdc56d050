"""DeleteObject."""

from __future__ import annotations

from gateway.s3.access import allows, arrive, check_version_id, denied, find_bucket, versioned, writer
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.rules.conditions import delete_condition
from gateway.s3.rules.naming import check_key


async def delete_object(services: Services, request: S3Request) -> S3Response:
    params = request.params
    bucket = await find_bucket(services, request.bucket, params.get("ExpectedBucketOwner"))
    version_id = check_version_id(params.get("VersionId"))
    check_key(request.key)
    action = versioned("s3:DeleteObject", version_id)
    if not await allows(services, request, action, bucket, key=request.key, version_id=version_id):
        raise denied()
    condition = delete_condition(
        params.get("IfMatch"), params.get("IfMatchLastModifiedTime"), params.get("IfMatchSize")
    )
    if not version_id:
        await arrive(services, bucket, request.key, condition)
    result = await services.store.delete_object(
        bucket, request.key, version_id=version_id, condition=condition, owner=writer(request, bucket)
    )
    return S3Response({"DeleteMarker": True if result.delete_marker else None, "VersionId": result.version_id or None})
