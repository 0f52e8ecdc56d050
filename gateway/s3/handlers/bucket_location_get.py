"""GetBucketLocation."""

from __future__ import annotations

from gateway.s3.access import require_bucket
from gateway.s3.contract import S3Request, S3Response, Services


async def get_bucket_location(services: Services, request: S3Request) -> S3Response:
    """The constraint that the bucket was created with. S3 prints an empty one for us-east-1, and so do we for a
    bucket that was created without one in that region."""
    bucket = await require_bucket(services, request, "s3:GetBucketLocation")
    location = bucket.location
    if not location and services.settings.region != "us-east-1":
        location = services.settings.region
    return S3Response({"LocationConstraint": location})
