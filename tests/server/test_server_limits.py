"""Limits answer 503 SlowDown beyond their bound and nothing within it; garbage gets 400 and no traceback."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest
from aiohttp import web

from core.http.connection import Request
from core.http.limits import KeyLimiter, TokenBucket
from gateway.s3.answers import STAYS, write_whole
from gateway.server import Handler
from gateway.server_settings import HttpSettings, LimitSettings
from tests.server.server_support import running

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def test_connection_beyond_the_limit_is_told_to_slow_down() -> None:
    async with running(limits=LimitSettings(max_connections=2)) as one:
        first, _second = await one.connect(), await one.connect()
        first[1].write(GET)
        await first[0].readuntil(b"\r\n\r\n")  # both are surely open
        answer = await one.exchange(b"")
        assert answer.startswith(b"HTTP/1.1 503 Slow Down\r\n")
        assert b"<Code>SlowDown</Code>" in answer
        assert b'atoll_requests_refused_total{what="connection"} 1.0' in one.metrics.render()


async def test_requests_beyond_the_limit_are_told_to_slow_down() -> None:
    release = asyncio.Event()
    entered = asyncio.Event()

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        entered.set()
        await release.wait()
        return web.Response(text="done")

    async with running(handler, limits=LimitSettings(max_requests=1)) as one:
        reader, writer = await one.connect()
        writer.write(LAST)
        await entered.wait()
        assert b"<Code>SlowDown</Code>" in await one.exchange(LAST)
        assert (await one.exchange(LAST.replace(b"GET /", b"GET /-/health/live"))).startswith(b"HTTP/1.1 200")
        release.set()
        assert (await reader.read()).endswith(b"done")


async def _by_aiohttp(_request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(body=bytes(60_000))


async def _by_the_edge(request: Request) -> web.StreamResponse:
    await write_whole(request, b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", bytes(60_000))
    return STAYS


@pytest.mark.parametrize("answer", [_by_aiohttp, _by_the_edge])
async def test_who_asks_on_and_reads_nothing_is_not_answered_on(answer: Handler) -> None:
    """Answers would fill our memory. What the kernel's buffers take, some 10 MB, is not ours."""
    asked, answered = 1000, 0

    async def handler(request: Request) -> web.StreamResponse:
        nonlocal answered
        answered += 1
        return await answer(request)

    async with running(handler, http=HttpSettings()) as one:
        with socket.create_connection((one.host, one.port)) as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, GET * asked)
            before = -1
            while answered > before:
                before = answered
                await asyncio.sleep(0.2)
            assert answered < asked // 2
            taken = bytearray()
            while len(taken) < asked * 60_000 or taken.count(b"HTTP/1.1 200") < asked:
                taken += await asyncio.wait_for(loop.sock_recv(client, 1 << 20), 5)


async def test_rate_of_one_connection() -> None:
    async with running(limits=LimitSettings(connection_rate=2.0)) as one:
        answer = await one.exchange(GET * 4 + LAST)
        assert answer.count(b"HTTP/1.1 200") == 2
        assert answer.count(b"HTTP/1.1 503") == 3
        assert (await one.exchange(LAST)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 300 + b"\r\n",
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    ],
)
async def test_garbage_is_answered_400_without_internals(raw: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running() as one:
        answer = await one.exchange(raw)
        assert answer.split()[1] == b"400"
        assert b"<Code>BadRequest</Code>" in answer
        assert b"Traceback" not in answer
        assert b"aiohttp" not in answer.lower()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_bug_in_the_handler_is_a_500_that_tells_nothing() -> None:
    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        raise RuntimeError("inner workings")

    async with running(handler) as one:
        answer = await one.exchange(GET)
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"<Code>InternalError</Code>" in answer
        assert b"inner" not in answer


async def test_pages() -> None:
    async with running() as one:
        assert (await one.exchange(LAST.replace(b"/ ", b"/-/health/ready "))).endswith(b"ok\n")
        one.not_ready = "no catalog"
        answer = await one.exchange(LAST.replace(b"/ ", b"/-/health/ready "))
        assert answer.startswith(b"HTTP/1.1 503")
        assert answer.endswith(b"no catalog\n")
        assert (await one.exchange(LAST.replace(b"/ ", b"/-/health/live "))).startswith(b"HTTP/1.1 200")
        one.metrics.requests.observe("GetObject", 200, 0.003, 0, 10)
        answer = await one.exchange(LAST.replace(b"/ ", b"/-/metrics "))
        assert b'atoll_request_seconds_bucket{le="0.005",operation="GetObject",status="200"} 1.0' in answer
        assert b'atoll_request_sent_bytes_total{operation="GetObject",status="200"} 10.0' in answer
        assert (await one.exchange(LAST.replace(b"/ ", b"/-/else "))).startswith(b"HTTP/1.1 404")
        assert (await one.exchange(LAST.replace(b"GET /", b"PUT /-/metrics"))).startswith(b"HTTP/1.1 405")


async def test_header_count_setting_is_used() -> None:
    async with running(http=HttpSettings(max_headers=5)) as one:
        raw = b"GET / HTTP/1.1\r\n" + b"".join(b"H%d: x\r\n" % n for n in range(6)) + b"Connection: close\r\n\r\n"
        assert (await one.exchange(raw)).split()[1] == b"400"


def test_key_limiter_counts_each_key_by_itself() -> None:
    limiter = KeyLimiter(2)
    assert [limiter.enter("a"), limiter.enter("a"), limiter.enter("a"), limiter.enter("b")] == [True, True, False, True]
    assert limiter.refused == 1
    limiter.leave("a")
    assert limiter.enter("a")
    for key in ("a", "a", "b"):
        limiter.leave(key)
    assert limiter.enter("a")


def test_token_bucket_refills_at_its_rate_up_to_its_burst() -> None:
    bucket = TokenBucket(10.0, 2.0, 0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(0.1), bucket.take(0.1)] == [True, False]
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]
