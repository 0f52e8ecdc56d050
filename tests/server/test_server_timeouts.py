"""Slow clients: each kind is cut off in its time, and a client that keeps the pace is not."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web

from core.http.connection import BodyTimeout
from tests.server.server_support import running


async def test_headers_that_never_end_are_answered_408_and_cut() -> None:
    async with running() as one:
        reader, writer = await one.connect()
        started = time.monotonic()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        for _ in range(3):
            await asyncio.sleep(0.07)
            writer.write(b"X-More: 1\r\n")  # a drip does not extend the time
        answer = await asyncio.wait_for(reader.read(), 2)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert 0.25 < time.monotonic() - started < 0.5


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with running() as one:
        reader, _writer = await one.connect()
        assert await asyncio.wait_for(reader.read(), 2) == b""


async def test_slow_headers_of_a_second_request_are_cut() -> None:
    async with running() as one:
        reader, writer = await one.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await reader.readexactly(1)
        writer.write(b"GET /second HTTP/1.1\r\n")
        answer = await asyncio.wait_for(reader.read(), 2)
        assert answer.startswith(b"HTTP/1.1 408 ")


async def test_idle_connection_is_closed_after_its_time_without_an_answer() -> None:
    async with running() as one:
        reader, writer = await one.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n0")
        started = time.monotonic()
        assert await asyncio.wait_for(reader.read(), 2) == b""
        assert 0.2 < time.monotonic() - started < 1.5


@pytest.mark.parametrize("drip", [b"", b"a"])
async def test_slow_body_raises_body_timeout_in_the_handler(drip: bytes) -> None:
    seen: list[BaseException] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        try:
            await request.content.readexactly(100_000)
        except BodyTimeout as error:
            seen.append(error)
            return web.Response(status=400, text="too slow")
        return web.Response(text="whole")

    async with running(handler) as one:
        reader, writer = await one.connect()
        writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(40):
            writer.write(drip)
            await asyncio.sleep(0.05)
            if seen:
                break
        answer = await asyncio.wait_for(reader.read(), 5)
        assert len(seen) == 1
        assert answer.startswith(b"HTTP/1.1 400 ")


async def test_a_body_at_the_least_rate_is_taken_whole() -> None:
    async with running() as one:
        reader, writer = await one.connect()
        writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4000\r\n\r\n")
        for _ in range(20):
            writer.write(b"b" * 200)  # 4,000 bytes a second, the least is 1,000
            await asyncio.sleep(0.05)
        assert (await asyncio.wait_for(reader.read(), 2)).endswith(b"\r\n\r\n4000")


async def test_a_handler_that_does_not_read_is_not_held_against_the_client() -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(0.8)
        return web.Response(text=str(len(await request.content.read())))

    async with running(handler) as one:
        answer = await one.exchange(b"PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
        assert answer.endswith(b"\r\n\r\n5")


async def test_a_client_that_does_not_read_the_answer_is_aborted() -> None:
    ended = asyncio.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(10_000):
                await response.write(bytes(1 << 16))
        finally:
            ended.set()
        return response

    async with running(handler) as one:
        _reader, writer = await one.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(ended.wait(), 5)
