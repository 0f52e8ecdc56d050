"""A listening socket that can be closed without throwing away a connection that a client believes to have."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable

log = logging.getLogger("atoll.http")

_BACKLOG = 1024
_HANDSHAKE = 3.0  # seconds that a client has for its TLS handshake with a server that ends


class Listener:
    """Accepts connections for `factory`, one protocol each. `open`, then `close` once."""

    def __init__(
        self, server: asyncio.Server, factory: Callable[[], asyncio.BaseProtocol], tls: ssl.SSLContext | None
    ) -> None:
        self._server, self._factory, self._tls = server, factory, tls
        name = server.sockets[0].getsockname()
        #: Host and port in use, of the first address when the host has several.
        self.address: tuple[str, int] = (name[0], name[1])

    @classmethod
    async def open(
        cls,
        factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> Listener:
        """Listen on every address of `host`; port 0 takes a free one. Raises OSError."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(factory, host, port, ssl=tls, backlog=_BACKLOG, reuse_address=True)
        return cls(server, factory, tls)

    async def close(self) -> None:
        """Take no new connections, but serve those that the system has accepted already.

        The system completes connections by itself and keeps them until the program accepts them; to close a listening
        socket resets those, and the request that a balancer has sent on one fails where it can't be sent again.
        """
        left: list[socket.socket] = []
        for one in self._server.sockets:
            with contextlib.suppress(OSError):
                left.append(socket.socket(fileno=os.dup(one.fileno())))
        self._server.close()
        accepted: list[socket.socket] = []
        for listening in left:
            listening.setblocking(False)
            with listening, contextlib.suppress(OSError):
                while True:
                    accepted.append(listening.accept()[0])
        loop = asyncio.get_running_loop()
        patience = _HANDSHAKE if self._tls is not None else None
        joined = (
            loop.connect_accepted_socket(self._factory, one, ssl=self._tls, ssl_handshake_timeout=patience)
            for one in accepted
        )
        for result in await asyncio.gather(*joined, return_exceptions=True):
            if isinstance(result, BaseException):
                log.info("connection lost while it was opened", extra={"fields": {"error": str(result)}})
