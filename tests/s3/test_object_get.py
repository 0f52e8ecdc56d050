"""GetObject and HeadObject: ranges, conditions, overrides."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.harness.live_server import LiveServer
from tests.s3.expecting import MIB, PART, plain_request, refused

BODY = bytes(range(256)) * 40


@pytest.fixture
def stored(main: Any, bucket: str) -> str:
    main.put_object(Bucket=bucket, Key="key", Body=BODY, ACL="public-read")
    return bucket


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, len(BODY) - 1),
        ("bytes=-100", len(BODY) - 100, len(BODY) - 1),
        ("bytes=-999999", 0, len(BODY) - 1),
        ("bytes=10-999999", 10, len(BODY) - 1),
        (f"bytes={len(BODY) - 1}-", len(BODY) - 1, len(BODY) - 1),
    ],
)
def test_ranges(main: Any, stored: str, header: str, first: int, last: int) -> None:
    answer = main.get_object(Bucket=stored, Key="key", Range=header)
    assert answer["Body"].read() == BODY[first : last + 1]
    assert answer["ContentRange"] == f"bytes {first}-{last}/{len(BODY)}"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    head = main.head_object(Bucket=stored, Key="key", Range=header)
    assert head["ContentLength"] == last - first + 1
    assert head["ResponseMetadata"]["HTTPStatusCode"] == 206


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=a-b", "lines=0-1", "bytes=0-1,5-6", "bytes=-"])
def test_headers_that_are_no_single_range_are_ignored(main: Any, stored: str, header: str) -> None:
    answer = main.get_object(Bucket=stored, Key="key", Range=header)
    assert answer["Body"].read() == BODY
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize("header", [f"bytes={len(BODY)}-", "bytes=-0", f"bytes={len(BODY) + 5}-{len(BODY) + 9}"])
def test_ranges_behind_the_end(main: Any, stored: str, header: str) -> None:
    with refused("InvalidRange", 416):
        main.get_object(Bucket=stored, Key="key", Range=header)


def test_range_of_an_empty_object(main: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="empty", Body=b"")
    with refused("InvalidRange", 416):
        main.get_object(Bucket=bucket, Key="empty", Range="bytes=0-5")


def test_ranges_of_a_large_object_across_its_frames(main: Any, bucket: str) -> None:
    body = bytes(number % 253 for number in range(253)) * (3 * MIB // 253)
    main.put_object(Bucket=bucket, Key="large", Body=body)
    for first, last in ((65535, 65536), (MIB - 1, 2 * MIB), (0, len(body) - 1), (len(body) - 3, len(body) - 1)):
        answer = main.get_object(Bucket=bucket, Key="large", Range=f"bytes={first}-{last}")
        assert answer["Body"].read() == body[first : last + 1]


def test_if_match_and_if_none_match(main: Any, stored: str) -> None:
    etag = main.head_object(Bucket=stored, Key="key")["ETag"]
    assert main.get_object(Bucket=stored, Key="key", IfMatch=etag)["Body"].read() == BODY
    assert main.get_object(Bucket=stored, Key="key", IfNoneMatch='"other"')["Body"].read() == BODY
    with refused("PreconditionFailed", 412):
        main.get_object(Bucket=stored, Key="key", IfMatch='"other"')
    with refused("304", 304) as answers:
        main.get_object(Bucket=stored, Key="key", IfNoneMatch=etag)
    assert answers[0]["ResponseMetadata"]["HTTPHeaders"]["etag"] == etag
    with refused("412", 412):
        main.head_object(Bucket=stored, Key="key", IfMatch='"other"')
    with refused("304", 304):
        main.head_object(Bucket=stored, Key="key", IfNoneMatch=etag)


def test_dates_and_their_combinations_with_etags(main: Any, stored: str) -> None:
    head = main.head_object(Bucket=stored, Key="key")
    etag, now = head["ETag"], head["LastModified"]
    earlier, later = now - timedelta(hours=1), now + timedelta(hours=1)
    assert main.get_object(Bucket=stored, Key="key", IfModifiedSince=earlier)["ContentLength"] == len(BODY)
    with refused("304", 304):
        main.get_object(Bucket=stored, Key="key", IfModifiedSince=now)
    with refused("PreconditionFailed", 412):
        main.get_object(Bucket=stored, Key="key", IfUnmodifiedSince=earlier)
    # a matching ETag outranks the date; so does one that makes the answer 304
    main.get_object(Bucket=stored, Key="key", IfMatch=etag, IfUnmodifiedSince=earlier)
    with refused("304", 304):
        main.get_object(Bucket=stored, Key="key", IfNoneMatch=etag, IfModifiedSince=earlier)
    main.get_object(Bucket=stored, Key="key", IfNoneMatch='"other"', IfModifiedSince=later)


def test_response_overrides_are_for_signed_requests(main: Any, server: LiveServer, stored: str) -> None:
    answer = main.get_object(
        Bucket=stored,
        Key="key",
        ResponseCacheControl="no-store",
        ResponseContentDisposition="inline",
        ResponseContentEncoding="identity",
        ResponseContentLanguage="fr",
        ResponseContentType="text/x-other",
        ResponseExpires="Wed, 21 Oct 2037 07:28:00 GMT",
    )
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["cache-control"] == "no-store"
    assert headers["content-type"] == "text/x-other"
    assert headers["expires"] == "Wed, 21 Oct 2037 07:28:00 GMT"
    refusal = plain_request("GET", f"{server.url}/{stored}/key?response-content-type=text/html")
    assert refusal.status == 400
    assert b"<Code>InvalidRequest</Code>" in refusal.body
    assert plain_request("GET", f"{server.url}/{stored}/key").body == BODY


def test_if_range(main: Any, server: LiveServer, stored: str) -> None:
    etag = main.head_object(Bucket=stored, Key="key")["ETag"]
    url = f"{server.url}/{stored}/key"
    same = plain_request("GET", url, headers={"Range": "bytes=0-9", "If-Range": etag})
    assert (same.status, same.body) == (206, BODY[:10])
    other = plain_request("GET", url, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (other.status, other.body) == (200, BODY)


def test_missing_key_and_bucket(main: Any, bucket: str) -> None:
    with refused("NoSuchKey", 404) as answers:
        main.get_object(Bucket=bucket, Key="missing")
    assert answers[0]["Error"]["Key"] == "missing"
    with refused("404", 404):
        main.head_object(Bucket=bucket, Key="missing")
    with refused("NoSuchBucket", 404):
        main.get_object(Bucket="missing-bucket-name", Key="key")


def test_head_has_no_body_and_is_refused_to_others(main: Any, alt: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=BODY)
    head = main.head_object(Bucket=bucket, Key="key")
    assert (head["ContentLength"], head["AcceptRanges"]) == (len(BODY), "bytes")
    with refused("403", 403):
        alt.head_object(Bucket=bucket, Key="key")


def test_parts_by_number(main: Any, bucket: str) -> None:
    upload = main.create_multipart_upload(Bucket=bucket, Key="key")["UploadId"]
    bodies = [b"a" * PART, b"b" * 100]
    parts = [
        {
            "PartNumber": number,
            "ETag": main.upload_part(Bucket=bucket, Key="key", UploadId=upload, PartNumber=number, Body=body)["ETag"],
        }
        for number, body in zip((3, 7), bodies, strict=True)
    ]
    main.complete_multipart_upload(Bucket=bucket, Key="key", UploadId=upload, MultipartUpload={"Parts": parts})
    for number, body in zip((3, 7), bodies, strict=True):
        answer = main.get_object(Bucket=bucket, Key="key", PartNumber=number)
        assert answer["Body"].read() == body
        assert answer["PartsCount"] == 2
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert main.head_object(Bucket=bucket, Key="key", PartNumber=number)["ContentLength"] == len(body)
    with refused("InvalidPart", 400):
        main.get_object(Bucket=bucket, Key="key", PartNumber=8)
    with refused("InvalidRequest", 400):
        main.get_object(Bucket=bucket, Key="key", PartNumber=3, Range="bytes=0-1")
    with refused("InvalidArgument", 400):
        main.get_object(Bucket=bucket, Key="key", PartNumber=0)


def test_the_only_part_of_an_object_put_in_one_piece(main: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=b"whole")
    answer = main.get_object(Bucket=bucket, Key="key", PartNumber=1)
    assert answer["Body"].read() == b"whole"
    assert "PartsCount" not in answer
    with refused("InvalidPart", 400):
        main.get_object(Bucket=bucket, Key="key", PartNumber=2)
