"""CreateMultipartUpload."""

from __future__ import annotations

from core.access import PrincipalKind
from gateway.s3.access import require_write, writer
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.errors import S3Error
from gateway.s3.handlers.object_put import write_actions
from gateway.s3.rules.attributes import attributes_in
from gateway.s3.rules.multipart import declared_checksum


async def create_multipart_upload(services: Services, request: S3Request) -> S3Response:
    params = request.params
    bucket = await require_write(services, request, *write_actions(params))
    if request.principal.kind is PrincipalKind.ANONYMOUS:
        raise S3Error("AccessDenied", "Anonymous users cannot initiate multipart uploads. Please authenticate.")
    attributes = attributes_in(params, writer(request, bucket), services.settings.max_metadata_size)
    algorithm, kind = declared_checksum(params)
    upload = await services.store.create_upload(
        bucket,
        request.key,
        attributes=attributes,
        initiator=request.principal.id,
        checksum_algorithm=algorithm,
        checksum_type=kind,
    )
    return S3Response(
        {
            "Bucket": bucket.name,
            "Key": request.key,
            "UploadId": upload.upload_id,
            "ChecksumAlgorithm": algorithm or None,
            "ChecksumType": None if kind is None else kind.value,
            "ServerSideEncryption": "AES256",
        }
    )
