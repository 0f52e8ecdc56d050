"""PutObject: bytes, headers, metadata, storage classes, conditions."""

from __future__ import annotations

import base64
import hashlib
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.harness.live_server import LiveServer
from tests.s3.expecting import MIB, md5_hex, plain_request, refused, signed_request


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 65536, MIB, MIB + 1, 5 * MIB + 17])
def test_bytes_come_back_with_their_md5_as_etag(main: Any, bucket: str, size: int) -> None:
    body = bytes(number * 7 % 251 for number in range(251)) * (size // 251 + 1)
    body = body[:size]
    answer = main.put_object(Bucket=bucket, Key="key", Body=body)
    assert answer["ETag"] == f'"{md5_hex(body)}"'
    read = main.get_object(Bucket=bucket, Key="key")
    assert read["Body"].read() == body
    assert (read["ETag"], read["ContentLength"]) == (answer["ETag"], size)


@pytest.mark.parametrize("size", [0, 1, 10_000, 200_000])
@pytest.mark.parametrize("apart", [False, True], ids=["with-its-head", "after-it"])
def test_a_body_may_come_with_its_head_or_after_it(
    server: LiveServer, main: Any, bucket: str, size: int, apart: bool
) -> None:
    body = b"0123456789" * (size // 10) + b"x" * (size % 10)
    target = urlsplit(main.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "key"}))

    def put(md5: bytes) -> bytes:
        head = (
            f"PUT {target.path}?{target.query} HTTP/1.1\r\nHost: {target.netloc}\r\nConnection: close\r\n"
            f"Content-MD5: {base64.b64encode(md5).decode()}\r\nContent-Length: {size}\r\n\r\n"
        ).encode()
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(head if apart else head + body)
            if apart:
                time.sleep(0.1)
                connection.sendall(body)
            return connection.makefile("rb").read()

    refusal = put(hashlib.md5(b"another").digest())
    assert refusal.startswith(b"HTTP/1.1 400 ")
    assert b"<Code>BadDigest</Code>" in refusal
    with refused("NoSuchKey", 404):
        main.get_object(Bucket=bucket, Key="key")
    assert put(hashlib.md5(body).digest()).startswith(b"HTTP/1.1 200 ")
    assert main.get_object(Bucket=bucket, Key="key")["Body"].read() == body


@pytest.mark.parametrize(
    "key",
    ["a", "a/b/c", "/leading", "trailing/", "a//b", ".", "..", "../../etc/passwd", "with space", "plus+sign",
     "per%cent", "über/日本語/😀", "q?u&e=r#y", "\x01\x1f", "a" * 1024, "back\\slash", '"quoted"', "~-_.!*'()"],
)  # fmt: skip
def test_odd_keys(main: Any, bucket: str, key: str) -> None:
    main.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert main.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert [one["Key"] for one in main.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    main.delete_object(Bucket=bucket, Key=key)
    assert main.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_keys_that_share_a_thousand_bytes(main: Any, bucket: str) -> None:
    stem = "k" * 1000
    names = [f"{stem}{number:024d}" for number in range(5)]
    for name in names:
        main.put_object(Bucket=bucket, Key=name, Body=name.encode())
    assert [one["Key"] for one in main.list_objects_v2(Bucket=bucket, Prefix=stem)["Contents"]] == names
    assert main.get_object(Bucket=bucket, Key=names[3])["Body"].read() == names[3].encode()


def test_over_long_key(main: Any, bucket: str) -> None:
    for key in ("a" * 1025, "ü" * 513):
        with refused("KeyTooLongError", 400):
            main.put_object(Bucket=bucket, Key=key, Body=b"x")


def test_headers_come_back_as_written(main: Any, bucket: str) -> None:
    given = {
        "CacheControl": "no-cache, max-age=7",
        "ContentDisposition": 'attachment; filename="a b.txt"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de, en",
        "ContentType": "text/plain; charset=utf-8",
        "WebsiteRedirectLocation": "/elsewhere",
    }
    main.put_object(Bucket=bucket, Key="key", Body=b"x", Expires="Wed, 21 Oct 2037 07:28:00 GMT", **given)
    read = main.head_object(Bucket=bucket, Key="key")
    assert {name: read[name] for name in given} == given
    assert read["ResponseMetadata"]["HTTPHeaders"]["expires"] == "Wed, 21 Oct 2037 07:28:00 GMT"


def test_default_content_type_and_transfer_coding(main: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=b"x", ContentEncoding="aws-chunked")
    read = main.head_object(Bucket=bucket, Key="key")
    assert read["ContentType"] == "binary/octet-stream"
    assert "ContentEncoding" not in read


def test_metadata_names_are_lower_case_and_replaced_by_the_next_put(main: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=b"x", Metadata={"Mixed-Case": "Value", "empty": ""})
    assert main.head_object(Bucket=bucket, Key="key")["Metadata"] == {"mixed-case": "Value", "empty": ""}
    main.put_object(Bucket=bucket, Key="key", Body=b"x")
    assert main.head_object(Bucket=bucket, Key="key")["Metadata"] == {}


def test_metadata_beyond_ascii_is_printed_by_rfc_2047(server: LiveServer, main: Any, bucket: str) -> None:
    encoded = "=?UTF-8?B?" + base64.b64encode("grüße 日本".encode()).decode() + "?="
    main.put_object(Bucket=bucket, Key="key", Body=b"x", Metadata={"greeting": encoded, "plain": "=?UTF-8?Q?abc?="})
    assert main.head_object(Bucket=bucket, Key="key")["Metadata"] == {"greeting": encoded, "plain": "abc"}


def test_metadata_has_a_limit_of_two_kilobytes(main: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=b"x", Metadata={"a": "b" * 2047})
    with refused("MetadataTooLarge", 400):
        main.put_object(Bucket=bucket, Key="big", Body=b"x", Metadata={"a": "b" * 2048})
    with refused("NoSuchKey", 404):
        main.get_object(Bucket=bucket, Key="big")


def test_storage_classes(main: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="std", Body=b"x", StorageClass="STANDARD")
    main.put_object(Bucket=bucket, Key="ia", Body=b"x", StorageClass="STANDARD_IA")
    assert "StorageClass" not in main.head_object(Bucket=bucket, Key="std")
    assert main.head_object(Bucket=bucket, Key="ia")["StorageClass"] == "STANDARD_IA"
    rows = main.list_objects_v2(Bucket=bucket)["Contents"]
    assert {row["Key"]: row["StorageClass"] for row in rows} == {"std": "STANDARD", "ia": "STANDARD_IA"}
    for unknown in ("PLASTIC", "GLACIER"):
        with refused("InvalidStorageClass", 400):
            main.put_object(Bucket=bucket, Key="x", Body=b"x", StorageClass=unknown)


@pytest.mark.parametrize(
    "options",
    [
        {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32},
        {"ServerSideEncryption": "aws:kms"},
        {"WriteOffsetBytes": 1},
        {"ObjectLockLegalHoldStatus": "ON"},
    ],
)
def test_what_would_be_lost_is_refused(main: Any, server: LiveServer, bucket: str, options: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as caught:
        main.put_object(Bucket=bucket, Key="key", Body=b"x", **options)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 501)
    with refused("NoSuchKey", 404):
        main.get_object(Bucket=bucket, Key="key")


def test_sealing_is_told(main: Any, bucket: str) -> None:
    answer = main.put_object(Bucket=bucket, Key="key", Body=b"x", ServerSideEncryption="AES256")
    assert answer["ServerSideEncryption"] == "AES256"


def test_missing_bucket_and_foreign_bucket(main: Any, alt: Any, bucket: str) -> None:
    with refused("NoSuchBucket", 404):
        main.put_object(Bucket="missing-bucket-name", Key="key", Body=b"x")
    with refused("AccessDenied", 403):
        alt.put_object(Bucket=bucket, Key="key", Body=b"x")


def test_content_md5_is_verified(main: Any, bucket: str) -> None:
    right = base64.b64encode(hashlib.md5(b"body").digest()).decode()
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    main.put_object(Bucket=bucket, Key="key", Body=b"body", ContentMD5=right)
    with refused("BadDigest", 400):
        main.put_object(Bucket=bucket, Key="key", Body=b"body!", ContentMD5=wrong)
    with refused("InvalidDigest", 400):
        main.put_object(Bucket=bucket, Key="key", Body=b"body!", ContentMD5="short")
    assert main.get_object(Bucket=bucket, Key="key")["Body"].read() == b"body"


def test_if_none_match_creates_once(main: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=b"first", IfNoneMatch="*")
    with refused("PreconditionFailed", 412) as answers:
        main.put_object(Bucket=bucket, Key="key", Body=b"second", IfNoneMatch="*")
    assert answers[0]["Error"]["Condition"] == "If-None-Match"
    assert main.get_object(Bucket=bucket, Key="key")["Body"].read() == b"first"


def test_if_match_replaces_what_was_seen(main: Any, bucket: str) -> None:
    etag = main.put_object(Bucket=bucket, Key="key", Body=b"1")["ETag"]
    newer = main.put_object(Bucket=bucket, Key="key", Body=b"2", IfMatch=etag)["ETag"]
    with refused("PreconditionFailed", 412):
        main.put_object(Bucket=bucket, Key="key", Body=b"3", IfMatch=etag)
    main.put_object(Bucket=bucket, Key="key", Body=b"4", IfMatch=newer.strip('"'))
    with refused("NoSuchKey", 404):
        main.put_object(Bucket=bucket, Key="missing", Body=b"x", IfMatch=etag)


def test_if_none_match_with_an_etag_refuses_that_one_only(main: Any, bucket: str) -> None:
    etag = main.put_object(Bucket=bucket, Key="key", Body=b"1", IfNoneMatch='"any"')["ETag"]
    with refused("PreconditionFailed", 412):
        main.put_object(Bucket=bucket, Key="key", Body=b"2", IfNoneMatch=etag)
    main.put_object(Bucket=bucket, Key="key", Body=b"3", IfNoneMatch='"other"')
    assert main.get_object(Bucket=bucket, Key="key")["Body"].read() == b"3"


def test_key_that_is_no_utf_8(server: LiveServer, bucket: str) -> None:
    answer = signed_request("PUT", f"{server.url}/{bucket}/%AE%8A-", body=b"x")
    assert answer.status == 400
    assert b"<Code>InvalidURI</Code>" in answer.body


def test_of_many_creators_one_wins(main: Any, bucket: str) -> None:
    def create(number: int) -> str:
        try:
            main.put_object(Bucket=bucket, Key="key", Body=str(number).encode() * 5000, IfNoneMatch="*")
        except ClientError as error:
            code: str = error.response["Error"]["Code"]
            return code
        return "won"

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(create, range(16)))
    assert set(outcomes) <= {"won", "PreconditionFailed", "ConditionalRequestConflict"}
    assert outcomes.count("won") == 1
    winner = str(outcomes.index("won")).encode() * 5000
    assert main.get_object(Bucket=bucket, Key="key")["Body"].read() == winner


def test_presigned_put_and_get(main: Any, server: LiveServer, new_bucket: Callable[..., str]) -> None:
    name = new_bucket()
    put = main.generate_presigned_url("put_object", {"Bucket": name, "Key": "a b+c"}, ExpiresIn=60)
    assert plain_request("PUT", put, body=b"presigned").status == 200
    get = main.generate_presigned_url("get_object", {"Bucket": name, "Key": "a b+c"}, ExpiresIn=60)
    assert plain_request("GET", get).body == b"presigned"
    tampered = plain_request("GET", get.replace("a%20b", "a%20c"))
    assert tampered.status == 403
    assert b"SignatureDoesNotMatch" in tampered.body


def test_over_declared_content_length_stores_nothing(main: Any, bucket: str) -> None:
    with refused("EntityTooLarge", 400):
        main.put_object(Bucket=bucket, Key="key", Body=_Huge())


class _Huge:
    """A body that claims more than 5 GiB; nothing of it may be read."""

    def __len__(self) -> int:
        return (5 << 30) + 1

    def read(self, size: int = -1) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def tell(self) -> int:
        return 0
