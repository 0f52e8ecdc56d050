"""DeleteBucket."""

from __future__ import annotations

from engine.errors import BucketNotEmpty
from gateway.s3.access import lister, require_bucket
from gateway.s3.contract import S3Request, S3Response, Services


async def delete_bucket(services: Services, request: S3Request) -> S3Response:
    bucket = await require_bucket(services, request, "s3:DeleteBucket")
    if bucket.settings:  # what is still to come is in the bucket for everybody who lists it
        page = await lister(services, bucket).list_objects(bucket, prefix="", delimiter="", after="", limit=1)
        if page.objects:
            raise BucketNotEmpty
    await services.store.delete_bucket(bucket)
    return S3Response()
