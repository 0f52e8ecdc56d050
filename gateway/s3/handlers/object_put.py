"""PutObject."""

from __future__ import annotations

from typing import Any

from engine.types import ObjectInfo
from gateway.s3.access import arrive, require_write, writer
from gateway.s3.checksums import Integrity, output_members
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.rules.attributes import attributes_in
from gateway.s3.rules.conditions import write_condition
from gateway.s3.rules.versions import written_version


async def put_object(services: Services, request: S3Request) -> S3Response:
    params = request.params
    bucket = await require_write(services, request, *write_actions(params))
    attributes = attributes_in(params, writer(request, bucket), services.settings.max_metadata_size)
    condition = write_condition(params)
    integrity = Integrity(request.headers, request.body)
    await arrive(services, bucket, request.key, condition)
    data = request.body.whole()
    info: ObjectInfo = await services.store.put_object(
        bucket,
        request.key,
        request.body.source() if data is None else data,
        attributes=attributes,
        digests=integrity.digests,
        finish=integrity.finish,
        condition=condition,
        size_hint=request.body.length,
    )
    output: dict[str, Any] = {
        "ETag": info.etag,
        "VersionId": written_version(info.version_id),
        "ServerSideEncryption": "AES256",
    }
    output.update(output_members(info.checksums, info.checksum_type))
    return S3Response(output)


def write_actions(params: dict[str, Any]) -> tuple[str, ...]:
    """The actions that a write needs, by what its headers set beside the bytes."""
    actions = ["s3:PutObject"]
    if params.get("ACL"):
        actions.append("s3:PutObjectAcl")
    if params.get("Tagging"):
        actions.append("s3:PutObjectTagging")
    return tuple(actions)
