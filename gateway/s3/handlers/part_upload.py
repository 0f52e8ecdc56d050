"""UploadPart."""

from __future__ import annotations

from typing import Any

from gateway.s3.checksums import Integrity, output_members
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.errors import S3Error
from gateway.s3.rules.multipart import check_part_number, part_algorithm, require_upload


async def upload_part(services: Services, request: S3Request) -> S3Response:
    number = check_part_number(request.params["PartNumber"])
    bucket, upload = await require_upload(services, request, "s3:PutObject")
    integrity = Integrity(request.headers, request.body, default=part_algorithm(upload))
    if upload.checksum_algorithm and integrity.algorithm != upload.checksum_algorithm:
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {upload.checksum_algorithm.lower()}, actual "
            f"checksum Type: {integrity.algorithm.lower()}",
        )
    part = await services.store.upload_part(
        bucket,
        request.key,
        upload.upload_id,
        number,
        request.body.source(),
        digests=integrity.digests,
        finish=integrity.finish,
        size_hint=request.body.length,
    )
    output: dict[str, Any] = {"ETag": part.etag, "ServerSideEncryption": "AES256"}
    output.update(output_members(part.checksums, None))
    return S3Response(output)
