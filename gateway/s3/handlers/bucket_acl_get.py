"""GetBucketAcl."""

from __future__ import annotations

from gateway.s3.access import require_bucket
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.rules.acl import grants_output, owner_output


async def get_bucket_acl(services: Services, request: S3Request) -> S3Response:
    bucket = await require_bucket(services, request, "s3:GetBucketAcl")
    return S3Response(
        {
            "Owner": owner_output(bucket.owner, services.users),
            "Grants": grants_output(bucket.acl, bucket.owner, services.users),
        }
    )
