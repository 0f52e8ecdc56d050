"""DeleteObjectTagging."""

from __future__ import annotations

from gateway.s3.access import head_object
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.rules.versions import printed_version


async def delete_object_tagging(services: Services, request: S3Request) -> S3Response:
    bucket, version_id, info = await head_object(services, request, "s3:DeleteObjectTagging")
    changed = await services.store.set_tags(bucket, request.key, version_id, (), seen=info)
    return S3Response({"VersionId": printed_version(bucket, changed.version_id)})
