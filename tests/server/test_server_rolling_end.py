"""A server that ends while clients are at work: nobody who was let in is turned away."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
import trustme
import uvloop
from aiohttp import web

from core.http.connection import Request, is_last
from gateway.server_settings import HttpSettings
from tests.server.server_support import running
from tests.server.test_server_tls import write

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
READY = b"GET /-/health/ready HTTP/1.1\r\nHost: x\r\n\r\n"


async def whole(reader: asyncio.StreamReader) -> bytes:
    """Everything until the server closes."""
    return await asyncio.wait_for(reader.read(), 5)


async def test_an_upload_under_way_goes_on_to_its_end() -> None:
    async with running(http=HttpSettings(drain_timeout=10)) as one:
        reader, writer = await one.connect()
        writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n" + b"a" * 1000)
        await asyncio.sleep(0.1)
        drain = asyncio.create_task(one.server.drain())
        for _ in range(4):  # the body goes on after the listener has closed
            await asyncio.sleep(0.1)
            writer.write(b"a" * 500)
        answer = await whole(reader)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"3000")
        await asyncio.wait_for(drain, 2)


@pytest.mark.parametrize("target", [HEAD, READY])
async def test_during_the_delay_all_is_served_and_every_answer_closes_its_connection(target: bytes) -> None:
    async with running(http=HttpSettings(drain_delay=0.5, drain_timeout=5)) as one:
        kept_reader, kept = await one.connect()
        kept.write(HEAD)
        assert b"\r\n\r\n0" in await kept_reader.readuntil(b"\r\n\r\n0")
        drain = asyncio.create_task(one.server.drain())
        await asyncio.sleep(0.1)
        kept.write(target)
        on_kept = await whole(kept_reader)
        new_reader, new = await one.connect()
        new.write(target)
        on_new = await whole(new_reader)
        for answer in (on_kept, on_new):
            assert answer.startswith(b"HTTP/1.1 503" if target == READY else b"HTTP/1.1 200")
            assert b"connection: close" in answer.lower()
        await drain


async def test_a_connection_that_a_long_answer_promised_to_keep_open_is_idle_as_long_as_any_before_it_closes() -> None:
    """A balancer may send its next request there until its own idle time is over, counted from the answer's end."""
    rest = asyncio.Event()

    async def handler(request: Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "3"})
        if is_last(request):
            response.force_close()
        await response.prepare(request)
        await rest.wait()
        await response.write(b"end")
        return response

    async with running(handler, http=HttpSettings(drain_delay=0.5, drain_timeout=5)) as one:
        used_reader, used = await one.connect()
        idle_reader, idle = await one.connect()
        for writer, reader in ((used, used_reader), (idle, idle_reader)):
            writer.write(HEAD)
            assert b"connection: close" not in (await reader.readuntil(b"\r\n\r\n")).lower()
        drain = asyncio.create_task(one.server.drain())
        await asyncio.sleep(0.4)
        rest.set()
        assert await used_reader.readexactly(3) == await idle_reader.readexactly(3) == b"end"
        await asyncio.sleep(0.3)  # the listener has closed meanwhile
        with pytest.raises(OSError):
            await one.connect()
        used.write(HEAD)
        answer = await whole(used_reader)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"end")
        assert b"connection: close" in answer.lower()
        assert await whole(idle_reader) == b""
        await asyncio.wait_for(drain, 2)


def test_connections_that_the_system_accepted_are_served_though_the_listener_closes() -> None:
    async def scenario() -> None:
        async with running(http=HttpSettings(drain_timeout=5)) as one, contextlib.AsyncExitStack() as clients:
            waiting = []
            for _ in range(20):
                # Without giving way to the loop: the server has not accepted any of them when the drain begins.
                client = clients.enter_context(socket.create_connection((one.host, one.port)))
                client.sendall(HEAD)
                client.setblocking(False)
                waiting.append(client)
            drain = asyncio.create_task(one.server.drain())
            loop = asyncio.get_running_loop()
            for client in waiting:
                answer = await asyncio.wait_for(loop.sock_recv(client, 1000), 2)
                assert answer.startswith(b"HTTP/1.1 200")
            await asyncio.wait_for(drain, 2)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the loop that the program runs on
        runner.run(scenario())


async def test_a_request_that_comes_a_moment_after_its_connection_is_served_and_a_silent_one_closed() -> None:
    async with running(http=HttpSettings(drain_timeout=5)) as one:
        late_reader, late = await one.connect()
        silent_reader, _silent = await one.connect()
        await asyncio.sleep(0.05)
        drain = asyncio.create_task(one.server.drain())
        await asyncio.sleep(0.2)
        late.write(HEAD)
        assert (await whole(late_reader)).startswith(b"HTTP/1.1 200")
        assert await whole(silent_reader) == b""
        await asyncio.wait_for(drain, 2)


async def test_a_large_answer_leaves_wholly_before_the_end() -> None:
    size = 8 << 20

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"z" * size)

    async with running(handler, http=HttpSettings(drain_timeout=10)) as one:
        reader, writer = await one.connect()
        writer.write(HEAD)
        await reader.readuntil(b"\r\n\r\n")
        drain = asyncio.create_task(one.server.drain())
        await asyncio.sleep(0.3)
        assert not drain.done()
        assert len(await whole(reader)) == size
        await asyncio.wait_for(drain, 2)


def test_a_client_that_begins_no_handshake_holds_up_the_end_for_moments_only(tmp_path: Path) -> None:
    tls, _serial = write(tmp_path, trustme.CA())

    async def scenario() -> None:
        async with running(http=HttpSettings(drain_timeout=60), tls=tls) as one:
            with contextlib.ExitStack() as silent:
                for _ in range(20):  # accepted by the system alone when the drain begins
                    silent.enter_context(socket.create_connection((one.host, one.port)))
                await asyncio.wait_for(one.server.drain(), 10)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
