"""DeleteBucketTagging."""

from __future__ import annotations

from dataclasses import replace

from gateway.s3.access import require_bucket
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.rules.bucket_tags import with_tags


async def delete_bucket_tagging(services: Services, request: S3Request) -> S3Response:
    """Remove a bucket's tags; IAM has no action of its own for that."""
    bucket = await require_bucket(services, request, "s3:PutBucketTagging")
    await services.store.update_bucket(
        bucket, lambda present: replace(present, settings=with_tags(present.settings, None))
    )
    return S3Response()
