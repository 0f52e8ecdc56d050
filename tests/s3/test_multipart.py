"""Multipart uploads: create, parts, copies of ranges, complete, abort, listings."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from awscrt import checksums as crt

from tests.s3.expecting import ALT_ID, MAIN_ID, PART, keys, prefixes, refused

A, B, C = b"a" * PART, b"b" * PART, b"tail"


def _start(client: Any, bucket: str, key: str = "key", **options: Any) -> str:
    upload: str = client.create_multipart_upload(Bucket=bucket, Key=key, **options)["UploadId"]
    return upload


def _part(client: Any, bucket: str, upload: str, number: int, body: bytes, key: str = "key", **options: Any) -> Any:
    answer = client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body, **options)
    checksums = {name: value for name, value in answer.items() if name.startswith("Checksum")}
    return {"PartNumber": number, "ETag": answer["ETag"], **checksums}


def _complete(client: Any, bucket: str, upload: str, parts: list[Any], key: str = "key", **options: Any) -> Any:
    return client.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, **options
    )


def _etag(*bodies: bytes) -> str:
    joined = b"".join(hashlib.md5(body).digest() for body in bodies)
    return f'"{hashlib.md5(joined).hexdigest()}-{len(bodies)}"'


def test_parts_in_any_order_make_one_object(main: Any, bucket: str) -> None:
    upload = _start(main, bucket, ContentType="text/x-parts", Metadata={"m": "1"}, Tagging="t=1")
    last = _part(main, bucket, upload, 9, C)
    first = _part(main, bucket, upload, 1, A)
    middle = _part(main, bucket, upload, 5, B)
    answer = _complete(main, bucket, upload, [first, middle, last])
    assert answer["ETag"] == _etag(A, B, C)
    assert answer["Location"].endswith(f"/{bucket}/key")
    read = main.get_object(Bucket=bucket, Key="key")
    assert read["Body"].read() == A + B + C
    assert (read["ETag"], read["ContentType"], read["Metadata"]) == (_etag(A, B, C), "text/x-parts", {"m": "1"})
    assert read["TagCount"] == 1
    across = main.get_object(Bucket=bucket, Key="key", Range=f"bytes={PART - 2}-{PART + 1}")
    assert across["Body"].read() == b"aabb"


def test_a_part_sent_again_replaces_the_first(main: Any, bucket: str) -> None:
    upload = _start(main, bucket)
    stale = _part(main, bucket, upload, 1, A)
    fresh = _part(main, bucket, upload, 1, B)
    with refused("InvalidPart", 400):
        _complete(main, bucket, upload, [stale])
    _complete(main, bucket, upload, [fresh])
    assert main.get_object(Bucket=bucket, Key="key")["Body"].read() == B


def test_rules_of_completion(main: Any, bucket: str) -> None:
    upload = _start(main, bucket)
    small, big = _part(main, bucket, upload, 1, b"small"), _part(main, bucket, upload, 2, A)
    with refused("EntityTooSmall", 400):
        _complete(main, bucket, upload, [small, big])
    with refused("InvalidPartOrder", 400):
        _complete(main, bucket, upload, [big, small])
    with refused("InvalidPart", 400):
        _complete(main, bucket, upload, [{"PartNumber": 3, "ETag": small["ETag"]}])
    with refused("MalformedXML", 400):
        _complete(main, bucket, upload, [])
    with refused("NoSuchKey", 404):
        main.get_object(Bucket=bucket, Key="key")
    _complete(main, bucket, upload, [big])


def test_of_a_number_named_twice_the_last_counts(main: Any, bucket: str) -> None:
    upload = _start(main, bucket)
    stale, fresh = _part(main, bucket, upload, 1, A), _part(main, bucket, upload, 1, B)
    _complete(main, bucket, upload, [stale, fresh])
    assert main.get_object(Bucket=bucket, Key="key")["Body"].read() == B


def test_completing_twice_gives_the_same_answer(main: Any, bucket: str) -> None:
    upload = _start(main, bucket)
    parts = [_part(main, bucket, upload, 1, C)]
    first = _complete(main, bucket, upload, parts)
    assert _complete(main, bucket, upload, parts)["ETag"] == first["ETag"]


def test_completion_on_a_condition(main: Any, bucket: str) -> None:
    upload = _start(main, bucket)
    parts = [_part(main, bucket, upload, 1, C)]
    main.put_object(Bucket=bucket, Key="key", Body=b"there")
    with refused("PreconditionFailed", 412):
        _complete(main, bucket, upload, parts, IfNoneMatch="*")
    assert main.get_object(Bucket=bucket, Key="key")["Body"].read() == b"there"
    main.delete_object(Bucket=bucket, Key="key")
    _complete(main, bucket, upload, parts, IfNoneMatch="*")


def test_stated_object_size_must_be_true(main: Any, bucket: str) -> None:
    upload = _start(main, bucket)
    parts = [_part(main, bucket, upload, 1, C)]
    with refused("InvalidRequest", 400):
        _complete(main, bucket, upload, parts, MpuObjectSize=len(C) + 1)
    _complete(main, bucket, upload, parts, MpuObjectSize=len(C))


def test_abort_ends_an_upload(main: Any, bucket: str) -> None:
    upload = _start(main, bucket)
    part = _part(main, bucket, upload, 1, C)
    main.abort_multipart_upload(Bucket=bucket, Key="key", UploadId=upload)
    calls: list[Callable[[], Any]] = [
        partial(_part, main, bucket, upload, 2, C),
        partial(_complete, main, bucket, upload, [part]),
        partial(main.abort_multipart_upload, Bucket=bucket, Key="key", UploadId=upload),
        partial(main.list_parts, Bucket=bucket, Key="key", UploadId=upload),
    ]
    for call in calls:
        with refused("NoSuchUpload", 404):
            call()


@pytest.mark.parametrize("number", [0, 10_001])
def test_part_numbers_have_bounds(main: Any, bucket: str, number: int) -> None:
    upload = _start(main, bucket)
    with refused("InvalidArgument", 400):
        _part(main, bucket, upload, number, C)


def test_unknown_upload_and_wrong_key(main: Any, bucket: str) -> None:
    upload = _start(main, bucket)
    with refused("NoSuchUpload", 404):
        _part(main, bucket, "0" * 32, 1, C)
    with refused("NoSuchUpload", 404):
        _part(main, bucket, upload, 1, C, key="other")
    with refused("NoSuchUpload", 404):
        _part(main, bucket, "nonsense", 1, C)


def test_uploads_are_the_owners(main: Any, alt: Any, anonymous: Any, bucket: str) -> None:
    upload = _start(main, bucket)
    part = _part(main, bucket, upload, 1, C)
    for client in (alt, anonymous):
        with refused("AccessDenied", 403):
            _start(client, bucket)
        with refused("AccessDenied", 403):
            _part(client, bucket, upload, 1, b"mine")
        with refused("AccessDenied", 403):
            _complete(client, bucket, upload, [part])
        with refused("AccessDenied", 403):
            client.abort_multipart_upload(Bucket=bucket, Key="key", UploadId=upload)
        with refused("AccessDenied", 403):
            client.list_parts(Bucket=bucket, Key="key", UploadId=upload)
        with refused("AccessDenied", 403):
            client.list_multipart_uploads(Bucket=bucket)
    _complete(main, bucket, upload, [part])


def test_other_users_upload_into_an_open_bucket(main: Any, alt: Any, anonymous: Any, new_bucket: Any) -> None:
    name = new_bucket(ACL="public-read-write")
    upload = _start(alt, name)
    part = _part(alt, name, upload, 1, C)
    listed = alt.list_parts(Bucket=name, Key="key", UploadId=upload)
    assert (listed["Owner"]["ID"], listed["Initiator"]["ID"]) == (ALT_ID, ALT_ID)
    _complete(alt, name, upload, [part])
    assert alt.get_object(Bucket=name, Key="key")["Body"].read() == C
    with refused("AccessDenied", 403):
        _start(anonymous, name)


def test_list_parts_in_pages(main: Any, bucket: str) -> None:
    upload = _start(main, bucket, StorageClass="STANDARD_IA")
    sent = [_part(main, bucket, upload, number, C * number) for number in (1, 2, 5, 9)]
    first = main.list_parts(Bucket=bucket, Key="key", UploadId=upload, MaxParts=3)
    assert [(one["PartNumber"], one["Size"], one["ETag"]) for one in first["Parts"]] == [
        (one["PartNumber"], one["PartNumber"] * len(C), one["ETag"]) for one in sent[:3]
    ]
    assert (first["IsTruncated"], first["NextPartNumberMarker"], first["StorageClass"]) == (True, 5, "STANDARD_IA")
    assert first["Owner"] == {"DisplayName": "Main User", "ID": MAIN_ID}
    rest = main.list_parts(Bucket=bucket, Key="key", UploadId=upload, PartNumberMarker=5)
    assert [one["PartNumber"] for one in rest["Parts"]] == [9]
    assert not rest["IsTruncated"]


def test_list_uploads(main: Any, bucket: str) -> None:
    begun = {key: _start(main, bucket, key) for key in ("a", "b/1", "b/2", "c")}
    again = _start(main, bucket, "a")
    answer = main.list_multipart_uploads(Bucket=bucket)
    assert [(one["Key"], one["UploadId"]) for one in answer["Uploads"]] == [
        ("a", begun["a"]), ("a", again), ("b/1", begun["b/1"]), ("b/2", begun["b/2"]), ("c", begun["c"]),
    ]  # fmt: skip
    grouped = main.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert (keys(grouped, "Uploads"), prefixes(grouped)) == (["a", "a", "c"], ["b/"])
    found = []
    markers: dict[str, str] = {}
    while True:
        page = main.list_multipart_uploads(Bucket=bucket, MaxUploads=1, **markers)
        found += [one["UploadId"] for one in page["Uploads"]]
        if not page["IsTruncated"]:
            break
        markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    assert found == [one["UploadId"] for one in answer["Uploads"]]
    assert keys(main.list_multipart_uploads(Bucket=bucket, Prefix="b/"), "Uploads") == ["b/1", "b/2"]


def test_parts_copied_from_objects(main: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="source", Body=A + B + C)
    upload = _start(main, bucket)
    source = {"Bucket": bucket, "Key": "source"}

    def copy(number: int, **options: Any) -> Any:
        answer = main.upload_part_copy(
            Bucket=bucket, Key="key", UploadId=upload, PartNumber=number, CopySource=source, **options
        )["CopyPartResult"]
        return {"PartNumber": number, "ETag": answer["ETag"]}

    parts = [copy(1), copy(2, CopySourceRange=f"bytes={PART - 1}-{2 * PART}")]
    _complete(main, bucket, upload, parts)
    main.delete_object(Bucket=bucket, Key="source")
    body = main.get_object(Bucket=bucket, Key="key")["Body"].read()
    assert body == A + B + C + b"a" + B + b"t"


def test_wrong_ranges_and_conditions_of_part_copies(main: Any, alt: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="source", Body=b"0123456789")
    upload = _start(main, bucket)

    def copy(client: Any = main, **options: Any) -> Any:
        return client.upload_part_copy(
            Bucket=bucket,
            Key="key",
            UploadId=upload,
            PartNumber=1,
            **{"CopySource": f"{bucket}/source", **options},
        )

    for header in ("bytes=0", "0-5", "bytes=5-2", "bytes=-5", "bytes=5-", "bytes=0-1,3-4"):
        with refused("InvalidArgument", 400):
            copy(CopySourceRange=header)
    with refused("InvalidRange", 416):
        copy(CopySourceRange="bytes=0-10")
    with refused("PreconditionFailed", 412):
        copy(CopySourceIfMatch='"other"')
    with refused("NoSuchKey", 404):
        copy(CopySource=f"{bucket}/missing")
    with refused("AccessDenied", 403):
        copy(alt)


def _value(raw: int, size: int) -> str:
    return base64.b64encode(raw.to_bytes(size, "big")).decode()


def test_composite_checksums(main: Any, bucket: str) -> None:
    upload = _start(main, bucket, ChecksumAlgorithm="SHA256")
    parts = [_part(main, bucket, upload, number, body, ChecksumAlgorithm="SHA256") for number, body in ((1, A), (2, C))]
    joined = b"".join(hashlib.sha256(body).digest() for body in (A, C))
    whole = base64.b64encode(hashlib.sha256(joined).digest()).decode() + "-2"
    with refused("BadDigest", 400):
        _complete(main, bucket, upload, parts, ChecksumSHA256=base64.b64encode(bytes(32)).decode())
    wrong = [{**parts[0], "ChecksumSHA256": parts[1]["ChecksumSHA256"]}, parts[1]]
    with refused("InvalidPart", 400):
        _complete(main, bucket, upload, wrong)
    answer = _complete(main, bucket, upload, parts)
    assert (answer["ChecksumSHA256"], answer["ChecksumType"]) == (whole, "COMPOSITE")
    head = main.head_object(Bucket=bucket, Key="key", ChecksumMode="ENABLED")
    assert (head["ChecksumSHA256"], head["ChecksumType"]) == (whole, "COMPOSITE")


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_full_object_checksums(main: Any, bucket: str, algorithm: str) -> None:
    compute = {"CRC32": crt.crc32, "CRC32C": crt.crc32c, "CRC64NVME": crt.crc64nvme}[algorithm]
    whole = _value(compute(A + C), 8 if algorithm == "CRC64NVME" else 4)
    upload = _start(main, bucket, ChecksumAlgorithm=algorithm, ChecksumType="FULL_OBJECT")
    parts = [
        _part(main, bucket, upload, number, body, ChecksumAlgorithm=algorithm) for number, body in ((1, A), (2, C))
    ]
    answer = _complete(main, bucket, upload, parts, **{f"Checksum{algorithm}": whole})
    assert (answer[f"Checksum{algorithm}"], answer["ChecksumType"]) == (whole, "FULL_OBJECT")


def test_pairs_of_algorithm_and_type_that_do_not_exist(main: Any, bucket: str) -> None:
    for algorithm, kind in (("SHA256", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE")):
        with refused("InvalidRequest", 400):
            _start(main, bucket, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    upload = _start(main, bucket, ChecksumAlgorithm="SHA256")
    with refused("InvalidRequest", 400):
        _part(main, bucket, upload, 1, C, ChecksumAlgorithm="CRC32")
