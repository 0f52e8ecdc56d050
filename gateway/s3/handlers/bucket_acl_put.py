"""PutBucketAcl."""

from __future__ import annotations

from dataclasses import replace

from gateway.s3.access import require_bucket
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.rules.acl import requested_acl


async def put_bucket_acl(services: Services, request: S3Request) -> S3Response:
    bucket = await require_bucket(services, request, "s3:PutBucketAcl")
    acl = await requested_acl(request, bucket.owner)
    await services.store.update_bucket(bucket, lambda present: replace(present, acl=acl))
    return S3Response()
