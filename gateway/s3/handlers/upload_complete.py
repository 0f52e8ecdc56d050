"""CompleteMultipartUpload."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from engine.errors import NoSuchUpload
from engine.types import CompletePart, ObjectAttributes, Upload
from gateway.s3.access import arrive, require_write
from gateway.s3.checksums import members_of, output_members
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.errors import S3Error
from gateway.s3.rules.conditions import write_condition
from gateway.s3.rules.multipart import MAX_PARTS, Conclusion, check_part_number
from gateway.s3.rules.versions import written_version

_NO_ATTRIBUTES = ObjectAttributes()


def _named_parts(document: dict[str, Any]) -> list[CompletePart]:
    """The parts that the client names; of a number named twice in a row the last counts. Raises S3Error MalformedXML,
    InvalidArgument."""
    named = document.get("Parts") or []
    if not 1 <= len(named) <= MAX_PARTS:
        raise S3Error("MalformedXML")
    parts: list[CompletePart] = []
    for one in named:
        if one.get("PartNumber") is None or not one.get("ETag"):
            raise S3Error("MalformedXML")
        number = check_part_number(one["PartNumber"])
        if parts and parts[-1].number == number:
            parts.pop()
        parts.append(CompletePart(number, str(one["ETag"]).strip('"'), members_of(one)))
    return parts


def _location(request: S3Request) -> str:
    scheme = "https" if request.secure else "http"
    host = request.headers.get("host", "")
    return f"{scheme}://{host}/{request.bucket}/{quote(request.key)}"


def _check_type(params: dict[str, Any], upload: Upload) -> None:
    stated = params.get("ChecksumType")
    if stated and upload.checksum_type is not None and stated != upload.checksum_type.value:
        raise S3Error(
            "InvalidRequest",
            f"The upload was created using the {upload.checksum_type.value} checksum mode. The complete request must "
            "use the same checksum mode.",
        )


async def complete_multipart_upload(services: Services, request: S3Request) -> S3Response:
    params = request.params
    bucket = await require_write(services, request, "s3:PutObject")
    condition = write_condition(params)
    parts = _named_parts(await request.document())
    await arrive(services, bucket, request.key, condition)
    upload_id = str(params["UploadId"])
    try:
        upload = await services.store.get_upload(bucket, request.key, upload_id)
    except NoSuchUpload:  # completed already, perhaps: the store remembers and answers the same
        upload = Upload(request.key, upload_id, 0, "", _NO_ATTRIBUTES)
    _check_type(params, upload)
    conclude = Conclusion(upload, members_of(params), params.get("MpuObjectSize"))
    info = await services.store.complete_upload(
        bucket, request.key, upload_id, parts, conclude=conclude, condition=condition
    )
    output: dict[str, Any] = {
        "Location": _location(request),
        "Bucket": bucket.name,
        "Key": request.key,
        "ETag": info.etag,
        "VersionId": written_version(info.version_id),
        "ServerSideEncryption": "AES256",
    }
    output.update(output_members(info.checksums, info.checksum_type))
    return S3Response(output)
