"""Connections: how one is made, and a small pool of them.

The pool is our own because a connection here has no state between statements that would need asyncpg's reset (a round
trip for each use), and because a lost one must be told apart from a busy one.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from catalog.errors import CatalogClosed, CatalogUnavailable
from catalog.postgres_engine.schema import SESSION_NAME, is_postgres

#: How long a dead network goes unnoticed.
_NETWORK_SECONDS: Final = 10
#: Each statement reaches rows by the key's index: a sequential scan would also, being serializable, collide with every
#: write. Generic plans save planning again what never changes.
_PLANNER: Final = (
    "SET enable_seqscan = off; SET enable_bitmapscan = off; SET plan_cache_mode = force_generic_plan; SET jit = off"
)
#: What is acknowledged must outlive a crash, whatever the server's default is; stronger settings stay.
_DURABLE: Final = (
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)


class Connector:
    """Makes connections to one database. `serializable` ones are for commits."""

    def __init__(self, url: str, *, connect_timeout: float, statement_timeout: float) -> None:
        self._url = url
        self._connect_timeout = connect_timeout
        self._settings = {
            "application_name": SESSION_NAME,
            "statement_timeout": str(int(statement_timeout * 1000)),
            # A process that stands still within a transaction must not hold up others, or vacuum, for longer.
            "idle_in_transaction_session_timeout": str(int(statement_timeout * 1000)),
            "client_min_messages": "error",
        }
        #: Client-side bound of a statement: the server's, and the time that its refusal takes.
        self.patience = statement_timeout + 5

    async def connect(self, *, serializable: bool = False, endless: bool = False) -> Any:
        """A new connection; `endless`: for long reads, without the statement's time limit. Raises what asyncpg does."""
        isolation = "serializable" if serializable else "read committed"
        settings = {**self._settings, "default_transaction_isolation": isolation}
        if endless:
            settings |= {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
        connection = await asyncpg.connect(self._url, timeout=self._connect_timeout, server_settings=settings)
        try:
            self._watch(connection)
            async with asyncio.timeout(self._connect_timeout):
                if is_postgres(await connection.fetchval("SELECT version()")):
                    await connection.execute(f"{_PLANNER}; {_DURABLE}")
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _watch(self, connection: Any) -> None:
        """Let the system notice a peer that is gone without a word."""
        transport = getattr(connection, "_transport", None)
        handle = transport.get_extra_info("socket") if transport is not None else None
        if handle is None or handle.family not in (socket.AF_INET, socket.AF_INET6):
            return
        for level, option, value in (
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _NETWORK_SECONDS),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _NETWORK_SECONDS * 1000),
        ):
            handle.setsockopt(level, option, value)


class Pool:
    """At most `limit` connections, made when needed, the one used last given first."""

    def __init__(self, connector: Connector, *, limit: int, timeout: float, serializable: bool = False) -> None:
        self._connector = connector
        self._limit = limit
        self._timeout = timeout
        self._serializable = serializable
        self._idle: list[Any] = []
        self._count = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False

    @property
    def count(self) -> int:
        """Connections that are open or being made."""
        return self._count

    @property
    def busy(self) -> int:
        """Connections in use."""
        return self._count - len(self._idle)

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Any]:
        """A connection for one statement or transaction. Whoever leaves it in the midst of one, by an error of the
        connection or a cancellation, must `terminate` it. Raises CatalogUnavailable when none gets free in time, and
        what asyncpg raises when none can be made."""
        connection = await self._acquire()
        try:
            yield connection
        finally:
            self._release(connection)

    async def _acquire(self) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                while not self._closed:
                    while self._idle:
                        connection = self._idle.pop()
                        if not connection.is_closed():
                            return connection
                        self._count -= 1
                    if self._count < self._limit:
                        break
                    await self._wait()
        except TimeoutError:
            raise CatalogUnavailable(
                f"none of {self._limit} connections to the catalog's database got free in {self._timeout:g} s"
            ) from None
        if self._closed:
            raise CatalogClosed("the catalog is closed")
        self._count += 1
        try:
            return await self._connector.connect(serializable=self._serializable)
        except BaseException:
            self._count -= 1
            self._wake()
            raise

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self._wake()  # it was ours to use, and isn't used
            raise

    def _release(self, connection: Any) -> None:
        if connection.is_closed() or self._closed:
            self._count -= 1
            connection.terminate()
        else:
            self._idle.append(connection)
        self._wake()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def close(self) -> None:
        """Let go of idle connections at once and of others when they come back."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            self._count -= 1
            await farewell(connection)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()


async def farewell(connection: Any) -> None:
    """Close a connection in good order, if it can be."""
    try:
        await connection.close(timeout=2)
    except Exception:
        connection.terminate()
