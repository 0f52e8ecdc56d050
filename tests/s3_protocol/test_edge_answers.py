"""What the edge answers: documents it checks, bodies that break, limits, and nothing of its inside."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator

import pytest

from core.buffers import Buffer
from core.http.limits import KeyLimiter
from gateway.s3.contract import S3Error, S3Request, S3Response
from tests.s3_protocol.edge_support import Running, code_of, read_answer, running, signed_head, status_of


@pytest.fixture
async def edge() -> AsyncIterator[Running]:
    async with running() as one:
        yield one


async def test_head_errors_have_no_body_and_keep_the_connection(edge: Running) -> None:
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    for _ in range(2):
        writer.write(b"HEAD /bucket/absent HTTP/1.1\r\nHost: h\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert status_of(head) == 404
        assert b"<Error>" not in head
    writer.close()


async def test_preflight_without_cors_rules_is_forbidden(edge: Running) -> None:
    answer = await edge.raw(b"OPTIONS /bucket HTTP/1.1\r\nHost: h\r\n\r\n")
    assert status_of(answer) == 400
    answer = await edge.raw(
        b"OPTIONS /bucket HTTP/1.1\r\nHost: h\r\nOrigin: o\r\nAccess-Control-Request-Method: PUT\r\n\r\n"
    )
    assert (status_of(answer), code_of(answer)) == (403, "AccessForbidden")


async def test_documents_are_checked_before_they_are_believed(edge: Running) -> None:
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"
    good = base64.b64encode(hashlib.md5(body).digest()).decode()
    bad = base64.b64encode(hashlib.md5(b"").digest()).decode()
    for md5, status, code in ((bad, 400, "BadDigest"), (good, 200, "")):
        head = signed_head(edge, "POST", "/bucket?delete=", {"Content-MD5": md5, "!Content-Length": str(len(body))})
        answer = await edge.raw(head + body)
        assert (status_of(answer), code_of(answer)) == (status, code)
    empty = await edge.raw(signed_head(edge, "POST", "/bucket?delete", {"!Content-Length": "0"}))
    assert (status_of(empty), code_of(empty)) == (400, "MissingRequestBodyError")
    large = await edge.raw(signed_head(edge, "POST", "/bucket?delete", {"!Content-Length": str(5 << 20)}))
    assert (status_of(large), code_of(large)) == (400, "MaxMessageLengthExceeded")


async def test_complete_does_not_take_the_objects_checksum_for_its_documents(edge: Running) -> None:
    body = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>"
    headers = {"x-amz-checksum-crc32": "AAAAAA==", "!Content-Length": str(len(body))}
    answer = await edge.raw(signed_head(edge, "POST", "/bucket/k?uploadId=u", headers) + body)
    assert status_of(answer) == 200
    params = edge.objects.requests[-1].params
    assert params["MultipartUpload"] == {"Parts": [{"PartNumber": 1, "ETag": "e"}]}
    assert params["ChecksumCRC32"] == "AAAAAA=="


async def test_one_key_can_not_take_every_place() -> None:
    gate = asyncio.Event()

    async def wait(request: S3Request) -> S3Response:
        await gate.wait()
        return S3Response()

    async with running(handlers={"GetObject": wait}, limiter=KeyLimiter(1)) as edge:
        first = asyncio.create_task(edge.raw(signed_head(edge, "GET", "/bucket/a", {})))
        await asyncio.sleep(0.1)
        answer = await edge.raw(signed_head(edge, "GET", "/bucket/b", {}))
        assert (status_of(answer), code_of(answer)) == (503, "SlowDown")
        assert b"Retry-After" in answer
        gate.set()
        assert status_of(await first) == 200
        assert status_of(await edge.raw(signed_head(edge, "GET", "/bucket/b", {}))) == 200


async def _breaking(after: int) -> AsyncIterator[Buffer]:
    for _ in range(after):
        yield b"x" * 1000
    raise S3Error("ServiceUnavailable")


@pytest.mark.parametrize("after", [0, 1])
async def test_a_body_that_breaks_is_never_taken_for_whole(after: int) -> None:
    async def get(request: S3Request) -> S3Response:
        return S3Response(body=_breaking(after), length=2000)

    async with running(handlers={"GetObject": get}) as edge:
        head = signed_head(edge, "GET", "/bucket/a", {})
        if after:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await edge.raw(head)
        else:
            answer = await edge.raw(head)
            assert (status_of(answer), code_of(answer)) == (503, "ServiceUnavailable")


async def test_failures_tell_nothing_of_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: S3Request) -> S3Response:
        raise RuntimeError("the secret path /var/lib")

    async with running(handlers={"GetObject": fail}) as edge:
        answer = await edge.raw(signed_head(edge, "GET", "/bucket/a", {}))
    assert (status_of(answer), code_of(answer)) == (500, "InternalError")
    assert b"/var/lib" not in answer
    assert "request failed" in caplog.text


async def test_header_values_can_not_begin_another_header() -> None:
    async def get(request: S3Request) -> S3Response:
        return S3Response({"ContentDisposition": "a\r\nSet-Cookie: x"}, body=b"")

    async with running(handlers={"GetObject": get}) as edge:
        answer = await edge.raw(signed_head(edge, "GET", "/bucket/a", {}))
    assert b"\r\nSet-Cookie" not in answer
    assert b"Content-Disposition: a  Set-Cookie: x\r\n" in answer


async def test_every_request_has_an_id_of_its_own(edge: Running) -> None:
    count = 1100  # more than are drawn at once
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(signed_head(edge, "GET", "/bucket/missing", {}) * count)
    answers = [await read_answer(reader) for _ in range(count)]
    writer.close()
    ids = {found[1] for answer in answers if (found := re.search(rb"x-amz-request-id: ([0-9A-F]{16})\r\n", answer))}
    assert len(ids) == count


async def test_repeated_headers_are_one_joined_by_commas(edge: Running) -> None:
    lines = {"!X-Twice": "a", "!x-twice": "b", "!X-TWICE": "c", "!X-Once": "d"}
    await edge.raw(signed_head(edge, "GET", "/bucket/missing", lines))
    headers = edge.objects.requests[-1].headers
    assert (headers["x-twice"], headers["x-once"]) == ("a,b,c", "d")


def test_a_handler_of_no_operation_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="PutObjects"):
        asyncio.run(_run_with_unknown())


async def _run_with_unknown() -> None:
    async def nothing(request: S3Request) -> S3Response:
        return S3Response()

    async with running(handlers={"PutObjects": nothing}):
        pass
