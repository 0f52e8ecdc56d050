"""Bodies that lie, break off or crawl: nothing is stored, nothing stays behind, nobody else waits."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
import time
import urllib.request
from typing import Any

import pytest
from botocore.exceptions import ClientError

from core.ids import is_snapshot_name
from gateway.s3.signature.keys import sign
from gateway.s3.signature.payload import EMPTY_SHA256
from tests.badinput.wire import SIGNED_CHUNKS, UNSIGNED_CHUNKS, Heard, Wire, hear, seed_of
from tests.harness.live_server import LiveServer

MIB = 1 << 20


def absent(client: Any, key: str) -> bool:
    with pytest.raises(ClientError) as caught:
        client.head_object(Bucket="bucket", Key=key)
    return bool(caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404)


def pieces(server: LiveServer) -> set[str]:
    """Everything that nodes hold, finished or not, but for snapshots of the catalog."""
    found = [*server.nodes.glob("*/pieces/**/*"), *server.nodes.glob("*/incoming/**/*")]
    return {str(path.relative_to(server.nodes)) for path in found if path.is_file() and not is_snapshot_name(path.name)}


def signed_chunks(head: bytes, chunks: list[bytes]) -> list[bytes]:
    """Each chunk as it travels, the empty last one included."""
    seed = seed_of(head)
    previous, out = seed.signature, []
    for chunk in (*chunks, b""):
        digest = hashlib.sha256(chunk).hexdigest()
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{seed.timestamp}\n{seed.scope}\n{previous}\n{EMPTY_SHA256}\n{digest}"
        previous = sign(seed.key, text)
        out.append(f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + chunk + b"\r\n")
    return out


def in_chunks(wire: Wire, key: str, body: bytes, decoded: int, *, mode: str = UNSIGNED_CHUNKS, **extra: str) -> Heard:
    headers = {"x-amz-decoded-content-length": str(decoded), "Content-Encoding": "aws-chunked", **extra}
    late = [("Content-Length", str(len(body)))]
    return wire.say(wire.head("PUT", f"/bucket/{key}", headers, late, sha256=mode) + body)


SPOILT = {
    "signature": "SignatureDoesNotMatch",
    "bytes": "SignatureDoesNotMatch",
    "order": "SignatureDoesNotMatch",
    "repeated": "SignatureDoesNotMatch",
    "of another request": "SignatureDoesNotMatch",
    "left out": "InvalidRequest",
    "empty": "InvalidRequest",
    "end": "IncompleteBody",
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_wrong_chunk_signatures_store_nothing(wire: Wire, client: Any, spoil: str) -> None:
    payload = [bytes([number]) * 65536 for number in range(40)]  # several stripes before the spoilt one
    headers = {"x-amz-decoded-content-length": str(sum(map(len, payload))), "Content-Encoding": "aws-chunked"}
    head = wire.head("PUT", "/bucket/chunks", headers, sha256=SIGNED_CHUNKS)[:-2]
    chunks = signed_chunks(head, payload)
    line, _, rest = chunks[38].partition(b"\r\n")
    match spoil:
        case "signature":
            chunks[38] = line[:-1] + (b"0" if line[-1:] != b"0" else b"1") + b"\r\n" + rest
        case "bytes":
            chunks[38] = line + b"\r\n" + b"\xff" + rest[1:]
        case "order":
            chunks[37], chunks[38] = chunks[38], chunks[37]
        case "repeated":
            chunks[38] = chunks[37]
        case "of another request":
            other = wire.head("PUT", "/bucket/another", headers, sha256=SIGNED_CHUNKS)
            chunks[38] = signed_chunks(other, payload)[38]
        case "left out":
            chunks[38] = b"10000\r\n" + rest
        case "empty":
            chunks[38] = b"10000;chunk-signature=\r\n" + rest
        case _:
            chunks.pop()
    body = b"".join(chunks)
    heard = wire.say(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert heard.code == SPOILT[spoil]
    assert heard.status == (403 if heard.code == "SignatureDoesNotMatch" else 400)
    assert absent(client, "chunks")


def test_the_right_signatures_are_taken(wire: Wire, client: Any) -> None:
    headers = {"x-amz-decoded-content-length": str(MIB), "Content-Encoding": "aws-chunked"}
    head = wire.head("PUT", "/bucket/right", headers, sha256=SIGNED_CHUNKS)[:-2]
    body = b"".join(signed_chunks(head, [b"a" * 65536] * 16))
    assert wire.say(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body).status == 200
    assert client.get_object(Bucket="bucket", Key="right")["Body"].read() == b"a" * MIB


@pytest.mark.parametrize(
    ("body", "decoded", "status", "code"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", 4, 400, "IncompleteBody"),
        (b"5\r\nhello\r\n0\r\n\r\n", 6, 400, "IncompleteBody"),
        (b"5\r\nhello\r\n", 5, 400, "IncompleteBody"),
        (b"", 0, 400, "IncompleteBody"),
        (b"5\r\nhello\r\n0\r\n\r\nmore", 5, 400, "MalformedTrailerError"),
        (b"5\r\nhello\r\n0\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 5, 400, "MalformedTrailerError"),
        (b"6\r\nhello\r\n0\r\n\r\n", 5, 400, "InvalidRequest"),
        (b"hello", 5, 400, "IncompleteBody"),
        (b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", 0, 400, "MalformedTrailerError"),
        (b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n", 20_000, 403, "InvalidChunkSizeError"),
    ],
)
def test_wrong_framing_stores_nothing(
    wire: Wire, client: Any, body: bytes, decoded: int, status: int, code: str
) -> None:
    heard = in_chunks(wire, "framed", body, decoded)
    assert (heard.status, heard.code) == (status, code)
    assert absent(client, "framed")


def test_a_trailer_that_was_announced_must_come_and_be_right(wire: Wire, client: Any) -> None:
    announced = {"x-amz-trailer": "x-amz-checksum-crc32"}
    for trailer, code in ((b"", "MalformedTrailerError"), (b"x-amz-checksum-crc32:AAAAAA==\r\n", "BadDigest")):
        heard = in_chunks(wire, "trailed", b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n", 5, **announced)
        assert (heard.status, heard.code) == (400, code)
    assert absent(client, "trailed")
    assert (
        in_chunks(wire, "trailed", b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", 5, **announced).status
        == 200
    )


def test_no_bytes_in_chunks_are_an_empty_object(wire: Wire, client: Any) -> None:
    assert in_chunks(wire, "nothing", b"0\r\n\r\n", 0).status == 200
    assert client.head_object(Bucket="bucket", Key="nothing")["ContentLength"] == 0


def test_a_body_shorter_than_declared_is_not_stored(wire: Wire, client: Any) -> None:
    heard = wire.say(wire.head("PUT", "/bucket/short", late=[("Content-Length", "10")]) + b"hello", finish=True)
    assert heard.statuses in ([], [400])
    assert absent(client, "short")


def test_bytes_behind_the_declared_length_are_no_part_of_the_object(wire: Wire, client: Any) -> None:
    heard = wire.say(
        wire.head("PUT", "/bucket/long", late=[("Content-Length", "5")]) + b"hello, and more\r\n\r\n", answers=2
    )
    assert heard.statuses[-1] == 400  # what followed was no request
    assert heard.closed
    stored = client.list_objects_v2(Bucket="bucket", Prefix="long").get("Contents", [])
    assert all(client.get_object(Bucket="bucket", Key="long")["Body"].read() == b"hello" for _ in stored)


@pytest.mark.parametrize("way", ["reset", "end", "part"])
def test_a_client_gone_in_the_middle_leaves_nothing(wire: Wire, client: Any, server: LiveServer, way: str) -> None:
    before = pieces(server)
    target = "/bucket/gone"
    if way == "part":
        upload = client.create_multipart_upload(Bucket="bucket", Key="gone")["UploadId"]
        target += f"?partNumber=1&uploadId={upload}"
    with wire.connect() as connection:
        connection.sendall(wire.head("PUT", target, late=[("Content-Length", str(64 * MIB))]) + bytes(8 * MIB))
        deadline = time.monotonic() + 10
        while pieces(server) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert pieces(server) > before  # it is being written
        if way == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    deadline = time.monotonic() + 10
    while pieces(server) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert pieces(server) == before
    if way == "part":
        assert "Parts" not in client.list_parts(Bucket="bucket", Key="gone", UploadId=upload)
        client.abort_multipart_upload(Bucket="bucket", Key="gone", UploadId=upload)
    assert absent(client, "gone")


def test_a_body_that_crawls_is_cut_and_holds_up_nobody(wire: Wire, client: Any) -> None:
    with wire.connect() as connection:
        connection.sendall(wire.head("PUT", "/bucket/crawl", late=[("Content-Length", "100000")]))
        for _ in range(30):
            try:
                connection.sendall(b"x")
            except ConnectionError:
                break
            assert client.get_object(Bucket="bucket", Key="there")["Body"].read() == b"hello"
            time.sleep(0.2)
        heard = hear(connection)
    assert heard.statuses in ([400], [])
    assert absent(client, "crawl")


def test_a_body_of_crumbs_does_not_stop_the_others(wire: Wire, client: Any, server: LiveServer) -> None:
    """Half a million HTTP chunks of a byte each: legal, but worth little of everybody's time."""
    slowest, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal slowest
        while not done.is_set():
            began = time.monotonic()
            with urllib.request.urlopen(f"{server.url}/-/health/live", timeout=30) as answer:
                answer.read()
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    body = b"1\r\nx\r\n" * 500_000 + b"0\r\n\r\n"
    try:
        heard = wire.say(wire.head("PUT", "/bucket/crumbs", late=[("Transfer-Encoding", "chunked")]) + body, timeout=60)
    finally:
        done.set()
        watcher.join()
    assert heard.status == 200
    assert client.head_object(Bucket="bucket", Key="crumbs")["ContentLength"] == 500_000
    assert slowest < 2.0
