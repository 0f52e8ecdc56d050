"""A server with short timeouts around a small handler, and raw sockets to speak to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import web

from core.metrics import Metrics
from gateway.server import Handler, Server
from gateway.server_settings import HttpSettings, LimitSettings, TlsSettings

FAST = HttpSettings(header_timeout=0.3, idle_timeout=0.3, body_timeout=0.3, body_rate=1000, drain_timeout=2.0)


@dataclass
class Running:
    server: Server
    metrics: Metrics
    host: str
    port: int
    not_ready: str = ""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that is closed at the end of `running`."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        self.writers.append(writer)
        return reader, writer

    async def exchange(self, raw: bytes) -> bytes:
        """Send `raw`; everything until the server closes."""
        reader, writer = await self.connect()
        writer.write(raw)
        return await asyncio.wait_for(reader.read(), 5)


async def echo(request: web.BaseRequest) -> web.StreamResponse:
    """Answers with the length of the body."""
    length = 0
    while chunk := await request.content.readany():
        length += len(chunk)
    return web.Response(text=f"{length}")


@contextlib.asynccontextmanager
async def running(
    handler: Handler = echo,
    *,
    http: HttpSettings = FAST,
    limits: LimitSettings | None = None,
    tls: TlsSettings | None = None,
) -> AsyncIterator[Running]:
    metrics = Metrics()

    async def page() -> bytes:
        return metrics.render()

    holder: list[Running] = []
    server = Server(
        handler,
        http=http,
        limits=limits or LimitSettings(),
        tls=tls or TlsSettings(),
        metrics=metrics,
        ready=lambda: holder[0].not_ready,
        page=page,
    )
    await server.open()
    host, port = await server.listen("127.0.0.1", 0)
    holder.append(Running(server, metrics, host, port))
    try:
        yield holder[0]
    finally:
        for writer in holder[0].writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        server.hurry()
        await server.drain()
