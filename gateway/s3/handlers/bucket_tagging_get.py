"""GetBucketTagging."""

from __future__ import annotations

from gateway.s3.access import require_bucket
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.errors import S3Error
from gateway.s3.rules.bucket_tags import bucket_tags
from gateway.s3.rules.tags import tag_set


async def get_bucket_tagging(services: Services, request: S3Request) -> S3Response:
    bucket = await require_bucket(services, request, "s3:GetBucketTagging")
    tags = bucket_tags(bucket)
    if tags is None:
        raise S3Error("NoSuchTagSet", fields={"BucketName": bucket.name})
    return S3Response({"TagSet": tag_set(tags)})
