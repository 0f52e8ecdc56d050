"""PutBucketTagging."""

from __future__ import annotations

from dataclasses import replace

from gateway.s3.access import require_bucket
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.rules.bucket_tags import MAX_TAGS, with_tags
from gateway.s3.rules.tags import tags_from_document


async def put_bucket_tagging(services: Services, request: S3Request) -> S3Response:
    bucket = await require_bucket(services, request, "s3:PutBucketTagging")
    tags = tags_from_document(await request.document(), MAX_TAGS)
    await services.store.update_bucket(
        bucket, lambda present: replace(present, settings=with_tags(present.settings, tags))
    )
    return S3Response(status=204)
