"""DeleteBucket."""

from __future__ import annotations

from gateway.s3.access import require_bucket
from gateway.s3.contract import S3Request, S3Response, Services


async def delete_bucket(services: Services, request: S3Request) -> S3Response:
    bucket = await require_bucket(services, request, "s3:DeleteBucket")
    await services.store.delete_bucket(bucket)
    return S3Response()
