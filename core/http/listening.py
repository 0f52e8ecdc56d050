"""A listening socket that can be closed without throwing away a connection that a client believes to have."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

log = logging.getLogger("atoll.http")

_BACKLOG: Final = 1024
_AT_ONCE: Final = 64  # connections that are accepted between two turns of the loop
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE: Final = 1.0  # seconds without accepting when descriptors or memory are used up
_HANDSHAKE: Final = 60.0  # seconds that a client has for its TLS handshake
_LAST_HANDSHAKE: Final = 3.0  # the same with a server that ends


class Door:
    """Where accepted connections come in: each gets a protocol of `factory`, behind TLS if there is a context."""

    def __init__(self, factory: Callable[[], asyncio.BaseProtocol], tls: ssl.SSLContext | None) -> None:
        self._factory, self._tls = factory, tls
        self._loop = asyncio.get_running_loop()
        self._joining: set[asyncio.Task[None]] = set()
        self._patience = _HANDSHAKE
        self._closed = False

    def let_in(self, one: socket.socket, factory: Callable[[], asyncio.BaseProtocol] | None = None) -> None:
        """Serve a connected socket, which belongs to the door from now on; end it when the door is closed. Its protocol
        is made by `factory`, if it is not like the others'."""
        if self._closed:
            one.close()  # nothing of it was read: the client can send its request again elsewhere
            return
        task = self._loop.create_task(self._join(one, factory or self._factory), name="connection")
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _join(self, one: socket.socket, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        patience = self._patience if self._tls is not None else None
        try:
            await self._loop.connect_accepted_socket(factory, one, ssl=self._tls, ssl_handshake_timeout=patience)
        except Exception as error:  # whatever a client does in its handshake is its own affair
            one.close()
            log.info("connection lost while it was opened", extra={"fields": {"error": str(error)}})

    async def watch(self, listening: socket.socket, backlog: int) -> asyncio.Server:
        """Have the loop accept from a listening socket, which belongs to what is returned, until that is closed."""
        return await self._loop.create_server(self._factory, sock=listening, ssl=self._tls, backlog=backlog)

    async def settle(self) -> None:
        """The server ends: wait for those that are being let in. More may still come from another process."""
        self._patience = _LAST_HANDSHAKE
        if self._joining:
            await asyncio.wait(self._joining, timeout=_LAST_HANDSHAKE)

    async def close(self) -> None:
        """Let nobody in any more."""
        self._closed = True
        for task in self._joining:
            task.cancel()
        await asyncio.gather(*self._joining, return_exceptions=True)


class Listener:
    """Accepts connections and lets them in at a door. `open`, then `close` once.

    `pass_on` may take a connection elsewhere: it returns whether it did, and then the socket is its own. Where there is
    none the loop accepts by itself, in three quarters of the time.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        servers: list[asyncio.Server],
        door: Door,
        pass_on: Callable[[socket.socket], bool] | None,
    ) -> None:
        self._sockets, self._servers, self._door = sockets, servers, door
        self._loop = asyncio.get_running_loop()
        self._pauses: dict[int, asyncio.TimerHandle] = {}
        name = sockets[0].getsockname()
        #: Host and port in use, of the first address when the host has several.
        self.address: tuple[str, int] = (name[0], name[1])
        if pass_on is not None:
            for one in sockets:
                self._loop.add_reader(one, self._accept, one, pass_on)

    @classmethod
    async def open(
        cls, door: Door, host: str, port: int, *, pass_on: Callable[[socket.socket], bool] | None = None
    ) -> Listener:
        """Listen on every address of `host`; port 0 takes a free one. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        sockets: list[socket.socket] = []
        servers: list[asyncio.Server] = []
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                one = socket.socket(family, kind, protocol)
                sockets.append(one)
                one.setblocking(False)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.bind(address)
                one.listen(_BACKLOG)
            if pass_on is None:
                for one in sockets:
                    servers.append(await door.watch(one.dup(), _BACKLOG))
        except BaseException:
            for server in servers:
                server.close()
            for one in sockets:
                one.close()
            raise
        return cls(sockets, servers, door, pass_on)

    def _accept(self, listening: socket.socket, pass_on: Callable[[socket.socket], bool]) -> None:
        for _ in range(_AT_ONCE):
            try:
                one, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    log.warning("a connection could not be accepted: %s", error)
                    return
                log.error("no more connections for now: %s", error)
                self._loop.remove_reader(listening)
                self._pauses[listening.fileno()] = self._loop.call_later(_PAUSE, self._go_on, listening, pass_on)
                return
            one.setblocking(False)
            if not pass_on(one):
                self._door.let_in(one)

    def _go_on(self, listening: socket.socket, pass_on: Callable[[socket.socket], bool]) -> None:
        del self._pauses[listening.fileno()]
        self._loop.add_reader(listening, self._accept, listening, pass_on)

    def close(self) -> None:
        """Take no new connections, but let in those that the system has accepted already. Idempotent.

        The system completes connections by itself and keeps them until the program accepts them; to close a listening
        socket resets those, and the request that a balancer has sent on one fails where it can't be sent again.
        """
        for server in self._servers:
            server.close()
        for pause in self._pauses.values():
            pause.cancel()
        while self._sockets:
            listening = self._sockets.pop()
            self._loop.remove_reader(listening)
            with listening:
                while True:
                    try:
                        one, _ = listening.accept()
                    except OSError:
                        break
                    one.setblocking(False)
                    self._door.let_in(one)
