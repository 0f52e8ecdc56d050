"""Rules that the operations of a multipart upload share: numbers, algorithms, who may touch an upload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import NoSuchUpload
from engine.types import Bucket, ChecksumType, Outcome, Part, Upload
from gateway.s3.access import allows, denied, find_bucket
from gateway.s3.checksums import (
    ALGORITHMS,
    DEFAULT_ALGORITHM,
    composite,
    full_object,
    multipart_etag,
    multipart_type,
    require_checksum,
)
from gateway.s3.contract import S3Request, Services
from gateway.s3.errors import S3Error
from gateway.s3.rules.naming import check_key

MAX_PARTS = 10_000

#: Algorithms whose values of parts combine to the value of the whole.
_COMBINABLE = ("CRC64NVME", "CRC32", "CRC32C")


def check_part_number(number: int) -> int:
    """Raises S3Error InvalidArgument unless 1 ≤ number ≤ 10,000."""
    if not 1 <= number <= MAX_PARTS:
        raise S3Error(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive",
            fields={"ArgumentName": "partNumber", "ArgumentValue": str(number)},
        )
    return number


def declared_checksum(params: Mapping[str, Any]) -> tuple[str, ChecksumType | None]:
    """Algorithm ("" for none) and type of a new upload. Raises S3Error InvalidRequest."""
    algorithm, kind = str(params.get("ChecksumAlgorithm") or "").upper(), params.get("ChecksumType")
    if not algorithm:
        if kind:
            raise S3Error(
                "InvalidRequest",
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )
        return "", None
    if algorithm not in ALGORITHMS:
        raise S3Error("InvalidRequest", "Checksum algorithm provided is unsupported.")
    return algorithm, multipart_type(algorithm, str(kind).upper() if kind else None)


def part_algorithm(upload: Upload) -> str:
    """What is computed over a part for which the client names nothing."""
    return upload.checksum_algorithm or DEFAULT_ALGORITHM


async def require_upload(services: Services, request: S3Request, action: str) -> tuple[Bucket, Upload]:
    """The request's upload, once `action` on it is allowed: to the bucket's owner and to who began it. Raises S3Error
    NoSuchBucket, NoSuchUpload, AccessDenied."""
    params = request.params
    bucket = await find_bucket(services, request.bucket, params.get("ExpectedBucketOwner"))
    check_key(request.key)
    upload_id = str(params["UploadId"])
    try:
        upload = await services.store.get_upload(bucket, request.key, upload_id)
        owner = upload.initiator
    except NoSuchUpload:
        upload, owner = None, ""
    if not await allows(services, request, action, bucket, key=request.key, object_owner=owner):
        raise denied()
    if upload is None:
        raise S3Error("NoSuchUpload", fields={"UploadId": upload_id})
    return bucket, upload


class Conclusion:
    """ETag and checksums of a completed object from its stored parts, checked against what the client expects.

    `expected` are the client's checksums of the whole object, by algorithm; `size` its size in bytes, if it told.
    """

    __slots__ = ("_expected", "_size", "_upload")

    def __init__(self, upload: Upload, expected: Mapping[str, str], size: int | None) -> None:
        self._upload = upload
        self._expected = expected
        self._size = size

    def __call__(self, parts: Sequence[Part]) -> Outcome:
        """The engine's `conclude`. Raises S3Error InvalidRequest, BadDigest."""
        self._check_size(sum(part.size for part in parts))
        etag = multipart_etag([part.etag for part in parts])
        algorithm, kind = self._algorithm(parts)
        if not algorithm or kind is None:
            return Outcome(etag)
        values = [part.checksums[algorithm] for part in parts]
        if kind is ChecksumType.FULL_OBJECT:
            value = full_object(algorithm, [(one, part.size) for one, part in zip(values, parts, strict=True)])
        else:
            value = composite(algorithm, values)
        self._check_value(algorithm, value)
        return Outcome(etag, {algorithm: value}, kind)

    def _algorithm(self, parts: Sequence[Part]) -> tuple[str, ChecksumType | None]:
        """What was declared; else the first algorithm that all parts have and that combines."""
        declared = self._upload.checksum_algorithm
        if declared:
            return declared, self._upload.checksum_type
        for algorithm in _COMBINABLE:
            if all(algorithm in part.checksums for part in parts):
                return algorithm, ChecksumType.FULL_OBJECT
        return "", None

    def _check_size(self, computed: int) -> None:
        if self._size is not None and self._size != computed:
            raise S3Error(
                "InvalidRequest",
                f"The provided 'x-amz-mp-object-size' header value {self._size} does not match what was computed: "
                f"{computed}",
            )

    def _check_value(self, algorithm: str, computed: str) -> None:
        for name, value in self._expected.items():
            if name != algorithm:
                raise S3Error(
                    "InvalidRequest",
                    f"The upload was created using a {algorithm.lower()} checksum. The complete request has a "
                    f"{name.lower()} checksum.",
                )
            # A composite value may come with or without the number of parts.
            require_checksum(algorithm, value, computed if "-" in value else computed.partition("-")[0])
