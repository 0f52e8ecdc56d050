"""GetBucketVersioning."""

from __future__ import annotations

from engine.types import Versioning
from gateway.s3.access import require_bucket
from gateway.s3.contract import S3Request, S3Response, Services

_STATUS = {Versioning.ENABLED: "Enabled", Versioning.SUSPENDED: "Suspended"}


async def get_bucket_versioning(services: Services, request: S3Request) -> S3Response:
    bucket = await require_bucket(services, request, "s3:GetBucketVersioning")
    return S3Response({"Status": _STATUS.get(bucket.versioning)})
