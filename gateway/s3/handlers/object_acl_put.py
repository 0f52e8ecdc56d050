"""PutObjectAcl."""

from __future__ import annotations

from gateway.s3.access import head_object
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.rules.acl import requested_acl
from gateway.s3.rules.versions import printed_version, version_headers


async def put_object_acl(services: Services, request: S3Request) -> S3Response:
    bucket, version_id, info = await head_object(services, request, "s3:PutObjectAcl")
    acl = await requested_acl(request, info.attributes.owner)
    changed = await services.store.set_acl(bucket, request.key, version_id, acl, seen=info)
    return S3Response(headers=version_headers(printed_version(bucket, changed.version_id)))
