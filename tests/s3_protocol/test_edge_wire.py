"""The edge on raw sockets: what a client of any make may send, and what it may not."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import urllib.error
import urllib.request
import zlib
from collections.abc import AsyncIterator

import pytest

from gateway.s3.contract import S3Settings
from tests.s3_protocol import test_chunks
from tests.s3_protocol.edge_support import Running, code_of, read_answer, running, seed_of, signed_head, status_of


@pytest.fixture
async def edge() -> AsyncIterator[Running]:
    async with running() as one:
        yield one


async def test_continue_is_sent_only_to_whom_may_write(edge: Running) -> None:
    head = f"PUT /bucket/k HTTP/1.1\r\nHost: {edge.host}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    answer = await edge.raw(head.encode())
    assert (status_of(answer), code_of(answer)) == (403, "AccessDenied")
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(signed_head(edge, "PUT", "/bucket/k", {"!Content-Length": "5", "!Expect": "100-continue"}))
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert edge.objects.pulled == []
    writer.write(b"hello")
    assert status_of(await read_answer(reader)) == 200
    assert edge.objects.data == {"k": b"hello"}
    writer.close()


async def test_continue_is_sent_for_an_empty_body_too(edge: Running) -> None:
    """Clients that ask for it and are not told wait for ever on that connection's next answer."""
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    for _ in range(2):
        writer.write(signed_head(edge, "PUT", "/bucket/k", {"!Content-Length": "0", "!Expect": "100-continue"}))
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert status_of(await read_answer(reader)) == 200
    writer.close()


async def test_a_refused_waiting_client_is_answered_at_once_and_the_connection_ends(edge: Running) -> None:
    head = signed_head(edge, "PUT", "/bucket/k?restore", {"!Content-Length": "500000000", "!Expect": "100-continue"})
    answer = await edge.raw(head)
    assert b"connection: close" in answer.lower()
    assert status_of(answer) in (405, 501)
    assert edge.objects.calls == []


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("DELETE", "/bucket?website"),
        ("DELETE", "/bucket?website="),
        ("DELETE", "/bucket?replication&x-id=DeleteBucketReplication"),
        ("DELETE", "/bucket?intelligent-tiering&id=1"),
        ("DELETE", "/bucket/?metadataTable"),
        ("PUT", "/bucket/k?encryption"),
        ("PUT", "/bucket/k?annotation&annotationName=a"),
        ("PUT", "/bucket/k?renameObject"),
        ("PUT", "/bucket/k?append"),
        ("PUT", "/bucket?abac"),
        ("PUT", "/bucket?policy"),
        ("POST", "/bucket/k?restore"),
        ("POST", "/bucket/k?select&select-type=2"),
        ("GET", "/bucket/k?torrent"),
        ("GET", "/bucket?session"),
        ("POST", "/WriteGetObjectResponse"),
    ],
)
async def test_unimplemented_is_501_before_handler_authentication_and_body(
    edge: Running, method: str, target: str
) -> None:
    answer = await edge.raw(f"{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n".encode())
    assert (status_of(answer), code_of(answer)) == (501, "NotImplemented")
    assert edge.objects.calls == []


async def test_browser_forms_are_501(edge: Running) -> None:
    head = (
        "POST /bucket HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 9\r\n\r\n"
    )
    answer = await edge.raw(head.encode())
    assert (status_of(answer), code_of(answer)) == (501, "NotImplemented")


@pytest.mark.parametrize(
    ("query", "status", "expected"),
    [
        ("lifecycle", 404, "NoSuchLifecycleConfiguration"),
        ("cors", 404, "NoSuchCORSConfiguration"),
        ("website", 404, "NoSuchWebsiteConfiguration"),
        ("policy", 404, "NoSuchBucketPolicy"),
        ("encryption", 404, "ServerSideEncryptionConfigurationNotFoundError"),
        ("object-lock", 404, "ObjectLockConfigurationNotFoundError"),
        ("replication", 404, "ReplicationConfigurationNotFoundError"),
        ("publicAccessBlock", 404, "NoSuchPublicAccessBlockConfiguration"),
        ("ownershipControls", 404, "OwnershipControlsNotFoundError"),
        ("requestPayment", 200, "<Payer>BucketOwner</Payer>"),
        ("logging", 200, "<BucketLoggingStatus "),
        ("accelerate", 200, "<AccelerateConfiguration "),
        ("notification", 200, "<NotificationConfiguration "),
        ("policyStatus", 200, "<IsPublic>false</IsPublic>"),
        ("metrics", 200, "<IsTruncated>false</IsTruncated>"),
        ("metrics&id=x", 404, "NoSuchConfiguration"),
    ],
)
async def test_configurations_that_can_not_be_set_are_unset(
    edge: Running, query: str, status: int, expected: str
) -> None:
    answer = await edge.raw(signed_head(edge, "GET", f"/bucket?{query}", {}))
    assert status_of(answer) == status
    assert expected in answer.decode()
    missing = await edge.raw(signed_head(edge, "GET", f"/missing?{query}", {}))
    assert (status_of(missing), code_of(missing)) == (404, "NoSuchBucket")
    anonymous = await edge.raw(f"GET /bucket?{query} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert (status_of(anonymous), code_of(anonymous)) == (403, "AccessDenied")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"x-amz-server-side-encryption-customer-algorithm": "AES256"}, 501, "NotImplemented"),
        ({"x-amz-server-side-encryption": "aws:kms"}, 501, "NotImplemented"),
        ({"x-amz-server-side-encryption": "rot13"}, 400, "InvalidArgument"),
        ({"x-amz-object-lock-mode": "COMPLIANCE"}, 501, "NotImplemented"),
        ({"x-amz-write-offset-bytes": "5"}, 501, "NotImplemented"),
        ({"x-amz-grant-read": "id=1"}, 501, "NotImplemented"),
        ({"Content-MD5": "not base64"}, 400, "InvalidDigest"),
        ({"Content-MD5": ""}, 400, "InvalidDigest"),
        ({"Content-MD5": base64.b64encode(b"0" * 16).decode()}, 400, "BadDigest"),
        ({"x-amz-checksum-crc32": "AAAAAA=="}, 400, "BadDigest"),
        ({"x-amz-checksum-sha256": "bad"}, 400, "BadDigest"),
        ({"x-amz-checksum-crc99": "AAAA"}, 400, "InvalidRequest"),
        ({"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-sha1": "x"}, 400, "InvalidRequest"),
        ({"x-amz-sdk-checksum-algorithm": "CRC32"}, 400, "InvalidRequest"),
        ({"x-amz-sdk-checksum-algorithm": "CRC99"}, 400, "InvalidRequest"),
        ({"x-amz-sdk-checksum-algorithm": "SHA1", "x-amz-checksum-crc32": "AAAAAA=="}, 400, "InvalidRequest"),
        ({"x-amz-decoded-content-length": "many"}, 400, "InvalidArgument"),
    ],
)
async def test_bad_headers_store_nothing(edge: Running, headers: dict[str, str], status: int, code: str) -> None:
    head = signed_head(edge, "PUT", "/bucket/k", {**headers, "!Content-Length": "5"})
    answer = await edge.raw(head + b"hello")
    assert (status_of(answer), code_of(answer)) == (status, code)
    assert edge.objects.data == {}


async def test_wrong_payload_hash_stores_nothing(edge: Running) -> None:
    sha256 = hashlib.sha256(b"hello").hexdigest()
    for body, status in ((b"hellO", 400), (b"hello", 200)):
        head = signed_head(edge, "PUT", "/bucket/k", {"!Content-Length": "5"}, sha256)
        answer = await edge.raw(head + body)
        assert status_of(answer) == status
        assert code_of(answer) == ("XAmzContentSHA256Mismatch" if status == 400 else "")
    assert edge.objects.data == {"k": b"hello"}


async def test_lengths(edge: Running) -> None:
    answer = await edge.raw(signed_head(edge, "PUT", "/bucket/k", {}))
    assert (status_of(answer), code_of(answer)) == (411, "MissingContentLength")
    answer = await edge.raw(signed_head(edge, "PUT", "/bucket/k", {"!Content-Length": str((5 << 30) + 1)}))
    assert (status_of(answer), code_of(answer)) == (400, "EntityTooLarge")
    answer = await edge.raw(signed_head(edge, "PUT", "/bucket/k", {"!Content-Length": "-1"}))
    assert status_of(answer) == 400
    assert edge.objects.data == {}


async def test_a_client_that_goes_away_stores_nothing(edge: Running) -> None:
    _, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(signed_head(edge, "PUT", "/bucket/k", {"!Content-Length": "100000"}) + b"x" * 1000)
    await writer.drain()
    await asyncio.sleep(0.2)
    assert edge.objects.pulled
    writer.transport.abort()
    await asyncio.sleep(0.1)
    assert edge.objects.calls == ["PutObject"]
    assert edge.objects.data == {}


async def test_length_without_declaration_is_bounded() -> None:
    async with running(settings=S3Settings(max_object_size=10)) as edge:
        head = signed_head(edge, "PUT", "/bucket/k", {"!Transfer-Encoding": "chunked"})
        answer = await edge.raw(head + b"b\r\nhello world\r\n0\r\n\r\n")
        assert (status_of(answer), code_of(answer)) == (400, "EntityTooLarge")
        answer = await edge.raw(head + b"5\r\nhello\r\n0\r\n\r\n")
        assert status_of(answer) == 200
        assert edge.objects.data == {"k": b"hello"}


def http_chunked(data: bytes, size: int = 37) -> bytes:
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in (*pieces, b""))


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize(
    "mode",
    [
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    ],
)
async def test_streaming_modes(edge: Running, mode: str, nested: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = bytes(range(256)) * 300
    crc = base64.b64encode(zlib.crc32(payload).to_bytes(4, "big")).decode()
    trailer = mode.endswith("TRAILER")
    headers = {"x-amz-decoded-content-length": str(len(payload)), "Content-Encoding": "gzip, aws-chunked"}
    if trailer:
        headers["x-amz-trailer"] = "x-amz-checksum-crc32"
        headers["x-amz-sdk-checksum-algorithm"] = "CRC32"

    async def send(value: str, spoil: bool = False) -> bytes:
        head = signed_head(edge, "PUT", "/bucket/k", headers, mode)[:-2]
        monkeypatch.setattr(test_chunks, "SEED", seed_of(head))
        chunks = [payload[:65536], payload[65536:]]
        body = test_chunks.frame(chunks, {"x-amz-checksum-crc32": value} if trailer else None, signed="HMAC" in mode)
        if spoil:
            body = body.replace(payload[-10:], b"0123456789")
        if nested:
            return await edge.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + http_chunked(body))
        return await edge.raw(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

    bad = await send(crc, spoil=True)
    assert status_of(bad) == (403 if "HMAC" in mode else 400)
    assert code_of(bad) == ("SignatureDoesNotMatch" if "HMAC" in mode else "BadDigest")
    if trailer:
        wrong = await send("AAAAAA==")
        assert (status_of(wrong), code_of(wrong)) == (400, "BadDigest")
    assert edge.objects.data == {}
    answer = await send(crc)
    assert status_of(answer) == 200
    assert edge.objects.data == {"k": payload}
    assert edge.objects.requests[-1].params["ContentEncoding"] == "gzip"
    if trailer:
        assert f"x-amz-checksum-crc32: {crc}".encode() in answer


@pytest.mark.parametrize("declared", ["4", "6"])
async def test_decoded_length_must_be_right(edge: Running, declared: str) -> None:
    headers = {"x-amz-decoded-content-length": declared, "x-amz-trailer": ""}
    body = b"5\r\nhello\r\n0\r\n\r\n"
    head = signed_head(
        edge, "PUT", "/bucket/k", {**headers, "!Content-Length": str(len(body))}, "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    )
    answer = await edge.raw(head + body)
    assert (status_of(answer), code_of(answer)) == (400, "IncompleteBody")
    assert edge.objects.data == {}


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/bucket/%ff", 400, "InvalidURI"),
        ("/bucket/%zz", 400, "InvalidURI"),
        ("/bucket/a%2", 400, "InvalidURI"),
        ("/bucket/" + "k" * 1025, 400, "KeyTooLongError"),
        ("/bucket/" + "%C3%A4" * 513, 400, "KeyTooLongError"),
        ("//bucket", 400, "InvalidBucketName"),
        ("/bucket/k?prefix=%ff", 400, "InvalidURI"),
        ("/bucket?max-keys=blah&list-type=2", 400, "InvalidArgument"),
        ("/bucket?max-keys=-1&list-type=2", 400, "InvalidArgument"),
        ("/bucket?max-keys=99999999999999999999999&list-type=2", 400, "InvalidArgument"),
        ("/bucket/k?response-content-type=a%0d%0ab", 400, "InvalidArgument"),
        ("/bucket/k?response-content-type=%F0%9F%98%80", 400, "InvalidArgument"),
        ("/bucket/k?partNumber=x", 400, "InvalidArgument"),
    ],
)
async def test_bad_targets(edge: Running, target: str, status: int, code: str) -> None:
    answer = await edge.raw(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert (status_of(answer), code_of(answer)) == (status, code)
    assert edge.objects.calls == []


@pytest.mark.parametrize(
    ("host", "target", "bucket", "key"),
    [
        ("bucket.localhost:9000", "/a/b", "bucket", "a/b"),
        ("my.bucket.localhost", "/", "my.bucket", ""),
        ("localhost", "/bucket/a//b/../c", "bucket", "a//b/../c"),
        ("127.0.0.1:9000", "/bucket/" + "k" * 1024, "bucket", "k" * 1024),
        ("example.org", "/bucket/%00%01%7F", "bucket", "\x00\x01\x7f"),
        ("[::1]:9000", "/bucket/?list-type=2", "bucket", ""),
        ("x", "http://bucket.localhost/bucket2/k", "bucket2", "k"),
    ],
)
async def test_addressing(edge: Running, host: str, target: str, bucket: str, key: str) -> None:
    plain = target.partition("?")[2]
    query = "" if key or plain else "?list-type=2"
    await edge.raw(f"GET {target}{query} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    request = edge.objects.requests[-1]
    assert (request.bucket, request.key) == (bucket, key)


async def test_presigned_put_takes_headers_from_the_query(edge: Running) -> None:
    client = await asyncio.to_thread(edge.client, signature_version="s3v4")
    url = await asyncio.to_thread(
        client.generate_presigned_url, "put_object", Params={"Bucket": "bucket", "Key": "k"}, ExpiresIn=60
    )

    def put() -> int:
        with urllib.request.urlopen(urllib.request.Request(url, data=b"hello", method="PUT")) as answer:
            return int(answer.status)

    assert await asyncio.to_thread(put) == 200
    assert edge.objects.data == {"k": b"hello"}

    def tampered() -> int:
        try:
            with urllib.request.urlopen(urllib.request.Request(url + "&x-amz-acl=public-read", b"x", method="PUT")):
                return 200
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert await asyncio.to_thread(tampered) == 403
