"""GetObjectTagging."""

from __future__ import annotations

from gateway.s3.access import head_object
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.rules.tags import tag_set
from gateway.s3.rules.versions import printed_version


async def get_object_tagging(services: Services, request: S3Request) -> S3Response:
    bucket, _, info = await head_object(services, request, "s3:GetObjectTagging")
    return S3Response({"TagSet": tag_set(info.attributes.tags), "VersionId": printed_version(bucket, info.version_id)})
