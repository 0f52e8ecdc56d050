"""GetObjectAcl."""

from __future__ import annotations

from gateway.s3.access import head_object
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.rules.acl import grants_output, owner_output
from gateway.s3.rules.versions import printed_version, version_headers


async def get_object_acl(services: Services, request: S3Request) -> S3Response:
    bucket, _, info = await head_object(services, request, "s3:GetObjectAcl")
    owner = info.attributes.owner
    return S3Response(
        {
            "Owner": owner_output(owner, services.users),
            "Grants": grants_output(info.attributes.acl, owner, services.users),
        },
        headers=version_headers(printed_version(bucket, info.version_id)),
    )
