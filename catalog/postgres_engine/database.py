"""Statements that may be sent again: reads, and what is idempotent. A lost connection is replaced by another until the
database was out of reach for too long."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from catalog.errors import CatalogError
from catalog.postgres_engine.connections import Connector, Pool
from catalog.postgres_engine.failures import is_conflict, is_lost, translate

_FIRST_DELAY: Final = 0.01
_LAST_DELAY: Final = 0.5


class Backoff:
    """Growing pauses with jitter, until `seconds` have passed since it was made."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + seconds
        self._delay = _FIRST_DELAY

    @property
    def over(self) -> bool:
        return self._loop.time() >= self._end

    async def pause(self) -> None:
        """Between half of the pause and the whole, so that gateways don't come back all at once."""
        await asyncio.sleep(self._delay * random.uniform(0.5, 1))  # noqa: S311 - jitter
        self._delay = min(self._delay * 2, _LAST_DELAY)


class Database:
    """One database through one pool. `patience`: seconds for which it may be out of reach before callers are told."""

    def __init__(self, connector: Connector, pool: Pool, *, patience: float) -> None:
        self._connector = connector
        self._pool = pool
        self._patience = patience

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Any]:
        """A connection for one use. An error of the connection or a cancellation in there ends it."""
        async with self._pool.use() as connection:
            try:
                yield connection
            except BaseException as error:
                if not isinstance(error, Exception) or is_lost(error):
                    connection.terminate()
                raise

    async def once(self, statement: str, *arguments: object, on_send: Callable[[], None] = lambda: None) -> list[Any]:
        """Send a statement, once. `on_send` is called when there is a connection to send it on: an error before that
        did nothing. Raises what asyncpg does, or CatalogUnavailable."""
        async with self.use() as connection, asyncio.timeout(self._connector.patience):
            on_send()
            rows: list[Any] = await connection.fetch(statement, *arguments)
            return rows

    async def fetch(self, statement: str, *arguments: object) -> list[Any]:
        """Send a statement that may be sent again. Raises CatalogUnavailable after `patience`, CatalogFailed when it is
        refused."""
        backoff = Backoff(self._patience)
        while True:
            try:
                return await self.once(statement, *arguments)
            except CatalogError:
                raise
            except Exception as error:
                if not (is_lost(error) or is_conflict(error)) or backoff.over:
                    raise translate(error) from None
            await backoff.pause()

    def backoff(self) -> Backoff:
        """Pauses for as long as the database may be out of reach."""
        return Backoff(self._patience)
