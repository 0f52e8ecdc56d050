"""One client's connection, with the timeouts that keep slow and dead clients from holding it for ever.

Times are watched by one sweep over all connections, so a request costs no timers. A deadline is kept to within one
sweep. What is bounded:

- headers: from the connection's start, or from the first byte of a further request, to the end of its headers;
- idle: between requests;
- body: while a handler waits for body bytes, `rate` bytes a second on average over each `body` seconds (a body that we
  don't read, because we are the slow one, is not the client's fault);
- response: something must leave the socket in each `body` seconds while there is something to send.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import suppress
from functools import partial
from typing import Any, cast

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.web_protocol import RequestHandler

from core.buffers import Buffer
from core.errors import AtollError
from core.http.limits import Timeouts, TokenBucket
from core.http.moving import Course, Mover
from core.http.peer import Peer
from core.http.refusals import REQUEST_TIMEOUT, SLOW_DOWN, error_response

log = logging.getLogger("atoll.http")

_FOREVER = 1e9  # seconds; aiohttp's own idle timer, which the sweep replaces


class BodyTimeout(AtollError):
    """The client sent its body too slowly."""


class Written(web.StreamResponse):
    """What the server is told once an answer has left: nothing is to be written, and whether the connection stays."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self._stays = keep

    @property
    def keep_alive(self) -> bool | None:
        return self._stays

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: Buffer = b"") -> None:
        return None


class Connection(RequestHandler):
    """aiohttp's protocol with a byte count and the marks that the sweep leaves."""

    __slots__ = (
        "body_mark",
        "body_since",
        "bucket",
        "course",
        "header_since",
        "idle_since",
        "last",
        "made_at",
        "peer",
        "received",
        "seen_requests",
        "send_mark",
        "send_since",
    )

    def __init__(
        self, manager: web.Server, *, loop: asyncio.AbstractEventLoop, moved: bool = False, **options: Any
    ) -> None:
        """`moved`: requests on it were answered by another process before."""
        super().__init__(manager, loop=loop, keepalive_timeout=_FOREVER, **options)
        self.course = Course(moved)
        self.received = 0
        self.seen_requests = 0
        self.made_at = loop.time()
        self.header_since: float | None = None
        self.idle_since: float | None = None
        self.body_since: float | None = None
        self.body_mark = 0
        self.send_since: float | None = None
        self.send_mark = 0
        self.bucket: TokenBucket | None = None
        #: Who the client is, once somebody found it out for all requests of the connection.
        self.peer: Peer | None = None
        #: Whether the request under way, or else the next one, is the last here: its answer closes the connection.
        self.last = cast(ConnectionServer, manager).ending

    def data_received(self, data: bytes) -> None:
        if self.course.watched and self._waiter is not None and not self._waiter.done():
            self.course.begins(self.received, data)
        self.received += len(data)
        super().data_received(data)
        if self._waiter is None or self._waiter.done():
            self.header_since = None
        elif self.header_since is None:
            self.header_since = self._loop.time()  # the first bytes of headers that are not whole yet

    async def start(self) -> None:
        """Answer one request after the other until the connection ends, or leaves for another process.

        aiohttp's own way makes a task for each request, and so takes two turns of the event loop more: a tenth of a
        small read. It still answers what is no request, and whatever follows that.
        """
        while not self._force_close:
            if not self._messages:
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            if type(self._messages[0][0]) is not RawRequestMessage:
                await super().start()
                return
            if not await self._exchange():
                break
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    async def _exchange(self) -> bool:
        """Answer the next request, the whole head of which is there; whether the connection stays for another."""
        if self._manager is None or self._request_handler is None:
            return False  # the client went away in the same turn of the event loop
        server = cast(ConnectionServer, self._manager)
        message, payload = cast("tuple[RawRequestMessage, StreamReader]", self._messages.popleft())
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        server.requests_count += 1
        writer = StreamWriter(self, self._loop)
        task = cast("asyncio.Task[None]", self._task_handler)
        request = Request(message, payload, self, writer, task, loop=self._loop)
        try:
            response, reset = await self._handle_request(request, None, self._request_handler)
            if reset:
                return False
            self._keepalive = bool(response.keep_alive)
            if not payload.is_eof():
                await self._discard(payload)
        except ConnectionError:
            return False
        except Exception:
            log.exception("request failed", extra={"fields": {"path": request.path}})
            self.force_close()
            return False
        except BaseException:
            self.force_close()
            raise
        finally:
            cast(Any, request)._task = None  # it refers to this frame
        if not self._keepalive or self._close or self._force_close:
            return False
        self._next_keepalive_close_time = self._loop.time() + _FOREVER
        return server.mover is None or not self._leaves(server, server.mover, message.method, payload)

    async def _discard(self, payload: StreamReader) -> None:
        """Read the rest of a body that nobody wanted, for a while: to close now could destroy the answer."""
        if self._force_close:
            return
        if self._lingering_time:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._lingering_time):
                    while not payload.is_eof():
                        await payload.readany()
        if not payload.is_eof():
            self.close()

    def _leaves(self, server: ConnectionServer, mover: Mover, method: str, payload: StreamReader) -> bool:
        """Behind an answer: hand the connection to another process if it is better served there; whether it is gone."""
        if not self.course.leads_away(mover, method, self.received, payload.total_bytes):
            return False
        transport = self.transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() or self.last:
            return False
        connection = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        if not mover.move(connection):
            connection.close()
            return False
        server.moved += 1
        transport.abort()  # closes this process's descriptor only
        return True

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to what is no HTTP request, or to a handler's bug; the client is told no internals."""
        if status >= 500:
            log.error("request failed", exc_info=exc, extra={"fields": {"path": request.path}})
        else:
            log.info("bad request", extra={"fields": {"error": message or str(exc), "remote": request.remote or ""}})
        if request.writer is not None and cast(Any, request.writer).output_size > 0:
            raise ConnectionError("the response has begun")
        code, text = ("InternalError", "We encountered an internal error. Please try again.")
        if status < 500:
            code, text = ("BadRequest", "An error occurred when parsing the HTTP request.")
        response = error_response(status, code, text)
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """As aiohttp's, at once where nothing is left to be done. Returns when the client has taken most of what waits
        for it: one that goes on asking and reads nothing must not fill our memory with answers."""
        reset = False
        if type(resp) is not Written or self._upgraded:  # `isinstance` asks an abstract class
            resp, reset = await super().finish_response(request, resp, start_time)
        if self.writing_paused:
            await request.writer.drain()
        return resp, reset

    @property
    def _unused(self) -> bool:
        """Whether no request ever came on it."""
        return self._request_count == 0 and not self.course.moved

    @property
    def waiting_since(self) -> float:
        """When the last answer ended that left the connection open, or else when it was made (the loop's time)."""
        return self._next_keepalive_close_time - _FOREVER if self._next_keepalive_close_time else self.made_at

    def sweep(self, now: float, timeouts: Timeouts) -> None:
        """Judge the connection at `now` (the loop's time) and cut it off when it is late."""
        transport = self.transport
        if transport is None:
            return
        request = self._current_request
        if request is None and not self._messages and not self._request_in_progress:
            self._sweep_waiting(now, timeouts)
        else:
            self.idle_since = None
        if request is not None:
            self._sweep_body(now, timeouts, request)
        self._sweep_sending(now, timeouts, transport, request)

    def _sweep_waiting(self, now: float, timeouts: Timeouts) -> None:
        if self._unused:
            since: float | None = self.made_at
        else:
            since = self.header_since
        if since is not None:
            if now - since > timeouts.headers:
                self._refuse_slow_headers()
        elif self.idle_since is None or self.seen_requests != self._request_count:
            self.seen_requests, self.idle_since = self._request_count, now
        elif now - self.idle_since > timeouts.idle:
            self.force_close()

    def _refuse_slow_headers(self) -> None:
        log.info("slow headers", extra={"fields": {"remote": str(self.peername), "received": self.received}})
        if self.received and self.transport is not None:
            self.transport.write(REQUEST_TIMEOUT)
        self.force_close()

    def _sweep_body(self, now: float, timeouts: Timeouts, request: web.BaseRequest) -> None:
        content = request.content
        if content.is_eof() or content._waiter is None:
            self.body_since = None  # nobody waits for the client
            return
        if self.body_since is None:
            self.body_since, self.body_mark = now, self.received
            return
        waited = now - self.body_since
        if waited < timeouts.body:
            return
        if self.received - self.body_mark < timeouts.rate * waited:
            log.info("slow body", extra={"fields": {"remote": str(self.peername)}})
            content.set_exception(BodyTimeout("the client sent its body too slowly"))
            self._lingering_time = 0  # nobody reads the rest
            self.close()
        self.body_since, self.body_mark = now, self.received

    def _sweep_sending(
        self, now: float, timeouts: Timeouts, transport: asyncio.Transport, request: web.BaseRequest | None
    ) -> None:
        pending = transport.get_write_buffer_size()
        if not pending:
            self.send_since = None
            return
        queued = cast(Any, request.writer).output_size if request is not None else 0
        left = queued - pending  # a measure of what left the socket; only its change means anything
        if self.send_since is None or left != self.send_mark:
            self.send_since, self.send_mark = now, left
        elif now - self.send_since > timeouts.body:
            log.info("slow reader", extra={"fields": {"remote": str(self.peername)}})
            transport.abort()


class Request(web.BaseRequest):
    """aiohttp's request, with what is asked of every one at hand: its own properties cost a call each."""

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: Connection,
        payload_writer: AbstractStreamWriter,
        task: asyncio.Task[None],
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(message, payload, protocol, payload_writer, task, loop)
        #: Method, path as sent, version, headers.
        self.start = message
        #: The body.
        self.payload = payload
        self.connection = protocol
        #: Where the answer goes.
        self.out = payload_writer


class ConnectionServer(web.Server):
    """aiohttp's low-level server making our connections; `limit` of them at once, the rest are told to slow down."""

    def __init__(self, handler: Any, *, limit: int, **options: Any) -> None:
        request = partial(Request, loop=asyncio.get_running_loop())
        super().__init__(handler, request_factory=request, **options)
        self.limit = limit
        self.refused = 0
        self.ending = False
        #: Who moves connections to other processes, where there are any, and how many left so.
        self.mover: Mover | None = None
        self.moved = 0

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

    def moved_here(self) -> RequestHandler:
        """As a call, for a connection that another process has served before. It is not refused."""
        return Connection(self, loop=self._loop, moved=True, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if self.limit and len(self._connections) > self.limit and not cast(Connection, handler).course.moved:
            self.refused += 1
            transport.write(SLOW_DOWN)
            handler.force_close()

    def under_way(self) -> int:
        """Connections with a request being handled."""
        return sum(1 for one in self._connections if one._request_in_progress or one._messages)

    def end_after_requests(self) -> None:
        """From now on every answer closes its connection, so that clients and balancers leave by themselves."""
        self.ending = True
        for connection in self._connections:
            cast(Connection, connection).last = True

    def close_idle(self, grace: float, idle: float) -> None:
        """Close the connections that have waited for a request `idle` seconds since an answer, and those that never had
        one unless they are younger than `grace` seconds: a client opened them to send something at once.

        aiohttp's own way, closing all softly at once, makes connections deaf to the rest of a body that is under way.
        """
        now = self._loop.time()
        for connection in list(self._connections):
            one = cast(Connection, connection)
            if one._request_in_progress or one._messages or one.header_since is not None:
                continue
            if now - one.waiting_since >= (grace if one._unused else idle):
                one.force_close()

    async def watch(self, timeouts: Timeouts) -> None:
        """Sweep until cancelled."""
        step = max(0.02, min(1.0, min(timeouts.headers, timeouts.idle, timeouts.body) / 8))
        while True:
            await asyncio.sleep(step)
            now = self._loop.time()
            for connection in self.connections:
                try:
                    cast(Connection, connection).sweep(now, timeouts)
                except Exception:
                    # One broken connection must not take the timeouts from all others.
                    log.exception("connection swept badly")
                    connection.force_close()


def is_last(request: Request) -> bool:
    """Whether the answer to `request` must close its connection, because the server is ending."""
    return request.connection.last
