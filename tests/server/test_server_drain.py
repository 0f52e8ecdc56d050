"""The end: ready turns 503, new connections are refused, what is under way ends, the bound holds."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest
from aiohttp import web

from core.errors import StartRefused
from gateway.server_settings import HttpSettings
from tests.server.server_support import running


async def test_a_request_under_way_is_finished_and_idle_connections_close() -> None:
    release = asyncio.Event()
    entered = asyncio.Event()

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        entered.set()
        await release.wait()
        return web.Response(text="finished")

    async with running(handler, http=HttpSettings(drain_timeout=5)) as one:
        idle_reader, _ = await one.connect()
        reader, writer = await one.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await entered.wait()
        drain = asyncio.create_task(one.server.drain())
        await asyncio.sleep(0.1)
        with pytest.raises(OSError):
            await one.connect()
        assert not drain.done()
        release.set()
        assert (await asyncio.wait_for(reader.read(), 2)).endswith(b"finished")
        assert await asyncio.wait_for(idle_reader.read(), 2) == b""
        await asyncio.wait_for(drain, 2)


async def test_ready_is_503_during_the_delay() -> None:
    async with running(http=HttpSettings(drain_delay=0.3, drain_timeout=1)) as one:
        drain = asyncio.create_task(one.server.drain())
        await asyncio.sleep(0.05)
        answer = await one.exchange(b"GET /-/health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"draining" in answer
        await drain


@pytest.mark.parametrize("hurried", [False, True])
async def test_a_request_that_never_ends_is_cut_at_the_bound_or_when_hurried(hurried: bool) -> None:
    entered = asyncio.Event()
    cancelled = asyncio.Event()

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        return web.Response()

    async with running(handler, http=HttpSettings(drain_timeout=60 if hurried else 0.3)) as one:
        _reader, writer = await one.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await entered.wait()
        started = time.monotonic()
        drain = asyncio.create_task(one.server.drain())
        await asyncio.sleep(0)
        if hurried:
            one.server.hurry()
        await asyncio.wait_for(drain, 3)
        await asyncio.wait_for(cancelled.wait(), 1)
        assert time.monotonic() - started < 2


async def test_an_address_in_use_refuses_to_start_with_the_reason() -> None:
    async with running() as one, running() as other:
        with pytest.raises(StartRefused, match=f"cannot listen on 127.0.0.1:{one.port}: the address is in use"):
            await other.server.listen("127.0.0.1", one.port)


async def test_a_connection_handed_over_after_the_end_is_closed_without_an_answer() -> None:
    served: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        served.append(request.path)
        return web.Response()

    async with running(handler) as one:
        one.server.hurry()
        await one.server.drain()
        theirs, ours = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            theirs.sendall(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n")
            one.server.let_in(ours)
            theirs.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.to_thread(theirs.recv, 1) == b""
        assert not served
