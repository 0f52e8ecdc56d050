"""The HTTP server: listener, timeouts, limits, TLS, our own pages below `/-/`, and the drain at the end.

The handler given here (the S3 edge) sees every request whose path is not below `/-/`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from core.errors import StartRefused
from core.http.connection import ConnectionServer, Request, is_last
from core.http.limits import TokenBucket
from core.http.listening import Door, Listener
from core.http.moving import Mover
from core.http.refusals import error_response
from core.http.tls import Certificate
from core.metrics import Metrics, Sample
from gateway.server_pages import Pages
from gateway.server_settings import HttpSettings, LimitSettings, TlsSettings

log = logging.getLogger("atoll.server")

Handler = Callable[[Request], Awaitable[web.StreamResponse]]

_GRACE = 1.0  # seconds that a new connection has to bring its first request when the server ends
_SETTLE = 0.2  # seconds for connections that are being opened, in a TLS handshake say, to be seen at all
_UNLIMITED = 1 << 20  # connections, where nothing else bounds them
_READ_BUFFER = 1 << 20  # a stripe: what may wait in memory for a slow pipeline, per connection


class Server:
    """One server. `open`, mostly `listen`, then `drain` once; all on the same event loop.

    `ready` tells whether the rooms behind can serve (empty string) or why not. `page` makes the page of metrics.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        http: HttpSettings,
        limits: LimitSettings,
        tls: TlsSettings,
        metrics: Metrics,
        ready: Callable[[], str],
        page: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._handler = handler
        self._http, self._limits, self._tls = http, limits, tls
        self._pages = Pages(page, self._not_ready)
        self._ready = ready
        self._draining = False
        self._hurry = asyncio.Event()
        self._under_way = 0
        self._refused = 0
        self._server: ConnectionServer | None = None
        self._door: Door | None = None
        self._listener: Listener | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._certificate: Certificate | None = None
        metrics.source("atoll_connections", "Open client connections", kind="gauge", read=self._connections)
        metrics.source("atoll_connections_moved", "Connections handed to another process", read=self._moved)
        metrics.source("atoll_requests_under_way", "Requests being handled", kind="gauge", read=self._load_sample)
        metrics.source("atoll_requests_refused", "Requests and connections told to slow down", read=self._refusals)

    def load(self) -> int:
        """Requests being handled now; paces background work."""
        return self._under_way

    async def open(self, mover: Mover | None = None) -> None:
        """Be able to serve connections that are let in, which `mover` may move to other processes: those behind TLS
        stay, for what they agreed on is here, and those whose rate is limited, for what they did is counted here.
        Raises ConfigError for a certificate that can't be used."""
        context = None
        if self._tls.certificate is not None and self._tls.key is not None:
            self._certificate = Certificate(self._tls.certificate, self._tls.key)
            context = self._certificate.context
            self._tasks.append(asyncio.create_task(self._certificate.watch(self._tls.reload_interval)))
        http = self._http
        self._server = ConnectionServer(
            self._dispatch,
            limit=self._limits.max_connections,
            access_log=None,
            auto_decompress=False,
            max_line_size=http.max_line,
            max_field_size=http.max_header,
            max_headers=http.max_headers,
            lingering_time=2.0,
            read_bufsize=_READ_BUFFER,
        )
        if context is None and not self._limits.connection_rate:
            self._server.mover = mover
        self._door = Door(self._server, context)
        self._tasks.append(asyncio.create_task(self._server.watch(http.timeouts())))

    async def listen(
        self, host: str, port: int, *, pass_on: Callable[[socket.socket], bool] | None = None
    ) -> tuple[str, int]:
        """After `open`: accept connections, but those that `pass_on` takes; the address in use (the port that was taken
        for port 0). Raises StartRefused."""
        assert self._door is not None
        try:
            self._listener = await Listener.open(self._door, host, port, pass_on=pass_on)
        except OSError as error:
            raise StartRefused(f"cannot listen on {host}:{port}: {_reason(error)}") from error
        return self._listener.address

    def let_in(self, connection: socket.socket, *, moved: bool = False) -> None:
        """After `open`: serve a connection that another process accepted, and if it `moved`, has served before."""
        assert self._door is not None
        assert self._server is not None
        self._door.let_in(connection, self._server.moved_here if moved else None)

    def room(self) -> int:
        """Connections that can still be let in, so that no limit of this process is reached however busy they are."""
        if self._server is None:
            return 0
        limits = self._limits
        bounds = [n for n in (limits.max_connections, limits.max_requests, limits.max_key_requests) if n]
        return max(0, min(bounds, default=_UNLIMITED) - len(self._server.connections))

    def reload_certificate(self) -> None:
        """Take new certificate files into service (SIGHUP)."""
        if self._certificate is not None:
            self._certificate.reload()

    def hurry(self) -> None:
        """End a drain now, whatever is under way."""
        self._hurry.set()

    async def drain(self) -> None:
        """End without an error that a client behind a load balancer could see, within the time limit.

        First `not ready`, while everything is still served, each answer being the last on its connection: balancers
        look away and idle connections of theirs run out. After `drain_delay` no new connections: those that the
        system accepted for us are served, idle ones closed, and what is under way may end. A connection whose answer
        began before all this and so promised to stay gets the same delay from that answer's end.
        """
        self._draining = True
        loop = asyncio.get_running_loop()
        server, door = self._server, self._door
        deadline = loop.time() + self._http.drain_delay + self._http.drain_timeout
        if server is not None:
            server.end_after_requests()
        if self._http.drain_delay:
            await self._wait_hurry(self._http.drain_delay)
        if self._listener is not None:
            self._listener.close()
        if server is not None and door is not None:
            await door.settle()
            settled = loop.time() + _SETTLE
            while (server.connections or loop.time() < settled) and loop.time() < deadline:
                server.close_idle(_GRACE, self._http.drain_delay)
                if await self._wait_hurry(0.02):
                    break
            await door.close()
            if cut := server.under_way():
                log.warning("requests cut off by the end of the drain", extra={"fields": {"requests": cut}})
            await server.shutdown(timeout=0.1)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _wait_hurry(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), seconds)
        return self._hurry.is_set()

    async def _dispatch(self, request: Request) -> web.StreamResponse:
        if request.start.path.startswith("/-/"):
            return _closing(request, await self._pages.handle(request))
        limits = self._limits
        if self._under_way >= limits.max_requests > 0 or (
            limits.connection_rate and not self._within_rate(request, limits.connection_rate)
        ):
            self._refused += 1
            return _closing(request, error_response(503, "SlowDown", "Please reduce your request rate."))
        self._under_way += 1
        try:
            response = await self._handler(request)
        finally:
            self._under_way -= 1
        return _closing(request, response) if self._draining else response

    @staticmethod
    def _within_rate(request: Request, rate: float) -> bool:
        connection = request.connection
        now = asyncio.get_running_loop().time()
        if connection.bucket is None:
            connection.bucket = TokenBucket(rate, max(1.0, rate), now)
        return connection.bucket.take(now)

    def _not_ready(self) -> str:
        return "draining" if self._draining else self._ready()

    def _connections(self) -> list[Sample]:
        return [({}, len(self._server.connections) if self._server else 0)]

    def _moved(self) -> list[Sample]:
        return [({}, self._server.moved if self._server else 0)]

    def _load_sample(self) -> list[Sample]:
        return [({}, self._under_way)]

    def _refusals(self) -> list[Sample]:
        connections = self._server.refused if self._server else 0
        return [({"what": "request"}, self._refused), ({"what": "connection"}, connections)]


def _closing(request: Request, response: web.StreamResponse) -> web.StreamResponse:
    if is_last(request) and not response.prepared:  # a head that has left said already whether the connection stays
        response.force_close()
    return response


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the address is in use"
    if isinstance(error, socket.gaierror):
        return "the host name is unknown"
    return os.strerror(error.errno) if error.errno else str(error)
