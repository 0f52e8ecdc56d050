"""AbortMultipartUpload."""

from __future__ import annotations

from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.errors import S3Error
from gateway.s3.rules.multipart import require_upload
from gateway.s3.values import seconds_of


async def abort_multipart_upload(services: Services, request: S3Request) -> S3Response:
    bucket, upload = await require_upload(services, request, "s3:AbortMultipartUpload")
    initiated = request.params.get("IfMatchInitiatedTime")
    if initiated is not None and seconds_of(initiated) != seconds_of(upload.initiated_us):
        raise S3Error("PreconditionFailed", fields={"Condition": "x-amz-if-match-initiated-time"})
    await services.store.abort_upload(bucket, request.key, upload.upload_id)
    return S3Response()
