"""The ten checksum algorithms on PutObject, and GetObjectAttributes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import xxhash
from awscrt import checksums as crt

from tests.s3.expecting import PART, refused

BODY = b"The quick brown fox jumps over the lazy dog" * 5


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


DIGESTS: dict[str, Callable[[bytes], bytes]] = {
    "CRC32": lambda data: crt.crc32(data).to_bytes(4, "big"),
    "CRC32C": lambda data: crt.crc32c(data).to_bytes(4, "big"),
    "CRC64NVME": lambda data: crt.crc64nvme(data).to_bytes(8, "big"),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
    "SHA512": lambda data: hashlib.sha512(data).digest(),
    "MD5": lambda data: hashlib.md5(data).digest(),
    "XXHASH64": lambda data: xxhash.xxh64(data).digest(),
    "XXHASH3": lambda data: xxhash.xxh3_64(data).digest(),
    "XXHASH128": lambda data: xxhash.xxh3_128(data).digest(),
}


@pytest.mark.parametrize("algorithm", DIGESTS)
def test_given_checksum_is_verified_kept_and_returned_on_demand(main: Any, bucket: str, algorithm: str) -> None:
    member, value = f"Checksum{algorithm}", _encoded(DIGESTS[algorithm](BODY))
    answer = main.put_object(Bucket=bucket, Key="key", Body=BODY, **{member: value})
    assert (answer[member], answer["ChecksumType"]) == (value, "FULL_OBJECT")
    assert member not in main.head_object(Bucket=bucket, Key="key")
    asked = main.head_object(Bucket=bucket, Key="key", ChecksumMode="ENABLED")
    assert (asked[member], asked["ChecksumType"]) == (value, "FULL_OBJECT")
    read = main.get_object(Bucket=bucket, Key="key", ChecksumMode="ENABLED")
    assert (read[member], read["Body"].read()) == (value, BODY)
    assert main.list_objects_v2(Bucket=bucket)["Contents"][0]["ChecksumAlgorithm"] == [algorithm]


@pytest.mark.parametrize("algorithm", DIGESTS)
def test_wrong_checksum_stores_nothing(main: Any, bucket: str, algorithm: str) -> None:
    with refused("BadDigest", 400):
        main.put_object(
            Bucket=bucket, Key="key", Body=BODY, **{f"Checksum{algorithm}": _encoded(DIGESTS[algorithm](b"other"))}
        )
    with refused("NoSuchKey", 404):
        main.get_object(Bucket=bucket, Key="key")


def test_two_checksums_are_one_too_many(main: Any, bucket: str) -> None:
    with refused("InvalidRequest", 400):
        main.put_object(
            Bucket=bucket,
            Key="key",
            Body=BODY,
            ChecksumSHA256=_encoded(DIGESTS["SHA256"](BODY)),
            ChecksumCRC32=_encoded(DIGESTS["CRC32"](BODY)),
        )


def test_a_range_comes_without_the_checksum_of_the_whole(main: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=BODY)
    answer = main.get_object(Bucket=bucket, Key="key", Range="bytes=0-3", ChecksumMode="ENABLED")
    assert "ChecksumCRC32" not in answer
    assert answer["Body"].read() == BODY[:4]


ALL = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]


def test_attributes_of_an_object(main: Any, bucket: str) -> None:
    value = _encoded(DIGESTS["SHA256"](BODY))
    etag = main.put_object(Bucket=bucket, Key="key", Body=BODY, ChecksumSHA256=value)["ETag"]
    answer = main.get_object_attributes(Bucket=bucket, Key="key", ObjectAttributes=ALL)
    assert answer["ETag"] == etag.strip('"')
    assert answer["Checksum"] == {"ChecksumSHA256": value, "ChecksumType": "FULL_OBJECT"}
    assert (answer["StorageClass"], answer["ObjectSize"]) == ("STANDARD", len(BODY))
    assert "ObjectParts" not in answer
    only = main.get_object_attributes(Bucket=bucket, Key="key", ObjectAttributes=["ObjectSize"])
    assert "ETag" not in only


def test_attributes_of_parts_in_pages(main: Any, bucket: str) -> None:
    upload = main.create_multipart_upload(Bucket=bucket, Key="key", ChecksumAlgorithm="SHA256")["UploadId"]
    parts = []
    for number, body in ((1, b"a" * PART), (2, b"b" * PART), (3, b"c")):
        sent = main.upload_part(
            Bucket=bucket, Key="key", UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm="SHA256"
        )
        parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": sent["ChecksumSHA256"]})
    main.complete_multipart_upload(Bucket=bucket, Key="key", UploadId=upload, MultipartUpload={"Parts": parts})
    first = main.get_object_attributes(Bucket=bucket, Key="key", ObjectAttributes=ALL, MaxParts=2)["ObjectParts"]
    assert (first["TotalPartsCount"], first["IsTruncated"], first["NextPartNumberMarker"]) == (3, True, 2)
    assert [(one["PartNumber"], one["Size"]) for one in first["Parts"]] == [(1, PART), (2, PART)]
    assert first["Parts"][0]["ChecksumSHA256"] == parts[0]["ChecksumSHA256"]
    rest = main.get_object_attributes(Bucket=bucket, Key="key", ObjectAttributes=["ObjectParts"], PartNumberMarker=2)[
        "ObjectParts"
    ]
    assert ([one["PartNumber"] for one in rest["Parts"]], rest["IsTruncated"]) == ([3], False)


def test_attributes_of_wrong_names_missing_keys_and_for_others(main: Any, alt: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=BODY)
    with refused("InvalidArgument", 400):
        main.get_object_attributes(Bucket=bucket, Key="key", ObjectAttributes=["Colour"])
    with refused("NoSuchKey", 404):
        main.get_object_attributes(Bucket=bucket, Key="missing", ObjectAttributes=ALL)
    with refused("AccessDenied", 403):
        alt.get_object_attributes(Bucket=bucket, Key="key", ObjectAttributes=ALL)
