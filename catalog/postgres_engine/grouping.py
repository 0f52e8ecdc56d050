"""Point reads of many functions in few statements.

Whoever wants keys while all lanes are busy waits for the next free one, which takes all that wait along. So one reader
alone has a statement at once, and many share theirs: the cost of a round trip is divided among as many as there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from catalog.errors import CatalogClosed

_KEYS: Final = 1000  # in a statement of several requests

#: Sends a statement with the keys as its argument; rows begin with their key.
Fetch = Callable[[str, list[bytes]], Awaitable[list[Any]]]


class Lanes:
    """Up to `lanes` statements of one kind at once."""

    def __init__(self, fetch: Fetch, statement: str, lanes: int) -> None:
        self._fetch = fetch
        self._statement = statement
        self._lanes = lanes
        self._waiting: list[tuple[Sequence[bytes], asyncio.Future[Mapping[bytes, Any]]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = 0  # tasks that will look at what waits; a finished one stays in the set for a while
        self._closed = False
        #: Requests and statements so far.
        self.requests = 0
        self.statements = 0

    def request(self, keys: Sequence[bytes]) -> asyncio.Future[Mapping[bytes, Any]]:
        """Rows by key, of one statement; it may hold more than what was asked for. Raises what fetching does."""
        if self._closed:
            raise CatalogClosed("the catalog is closed")
        future: asyncio.Future[Mapping[bytes, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((keys, future))
        self.requests += 1
        if self._running < self._lanes:
            self._running += 1
            task = asyncio.create_task(self._run(), name="catalog reads")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._serve()
        finally:
            self._running -= 1

    async def _serve(self) -> None:
        """One statement, for as many as it takes."""
        futures: list[asyncio.Future[Mapping[bytes, Any]]] = []
        wanted: dict[bytes, None] = {}
        taken = 0
        for keys, future in self._waiting:
            if futures and len(wanted) + len(keys) > _KEYS:
                break
            taken += 1
            if not future.done():
                wanted.update(dict.fromkeys(keys))
                futures.append(future)
        del self._waiting[:taken]
        if not futures:
            return
        self.statements += 1
        try:
            rows = await self._fetch(self._statement, list(wanted))
        except asyncio.CancelledError:
            _fail(futures, CatalogClosed("the catalog is closed"))
            raise
        except Exception as error:
            _fail(futures, error)
            return
        found = {row[0]: row for row in rows}
        for future in futures:
            if not future.done():
                future.set_result(found)

    async def close(self) -> None:
        """End what runs; whoever waits gets CatalogClosed."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        waiting, self._waiting = self._waiting, []
        _fail([future for _, future in waiting], CatalogClosed("the catalog is closed"))


def _fail(futures: Sequence[asyncio.Future[Any]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
