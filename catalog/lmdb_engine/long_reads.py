"""Reads over snapshots of their own: long ones, off the event loop's thread, views and exports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Protocol, TypeVar

from catalog.interface import Reader, Row, View
from catalog.keys import prefix_end
from catalog.lmdb_engine.snapshot import Snapshot
from catalog.lmdb_engine.views import SnapshotReader, SteadyView, drive

T = TypeVar("T")

_EXPORT_ROWS: Final = 1000
_THREADS: Final = 2


class Ground(Protocol):
    """Whose map must not move while such a snapshot is open."""

    async def enter_long(self) -> Snapshot:
        """A new snapshot, once none is held back. Raises CatalogClosed."""
        ...

    def leave_long(self) -> None:
        """A snapshot of `enter_long` was closed."""
        ...


class LongReads:
    """The long reads of one catalog, and their threads. Belongs to the event loop."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="catalog-read")

    async def read(self, function: Callable[[Reader], Awaitable[T]]) -> T:
        """See `catalog.interface.Catalog.read`."""
        snapshot = await self._ground.enter_long()
        task = self._in_thread(lambda: drive(function, SnapshotReader(snapshot)))
        try:
            return await asyncio.shield(task)
        finally:
            self._close_behind(task, snapshot)

    @asynccontextmanager
    async def view(self) -> AsyncIterator[View]:
        """See `catalog.interface.Catalog.view`."""
        snapshot = await self._ground.enter_long()
        try:
            yield SteadyView(snapshot)
        finally:
            self._close(snapshot)

    async def export(self, after: bytes) -> AsyncGenerator[list[Row], None]:
        """See `catalog.interface.Catalog.export`."""
        snapshot = await self._ground.enter_long()
        start, end = after + b"\x00", prefix_end(b"")
        task: asyncio.Future[list[Row]] | None = None
        try:
            while True:
                task = self._in_thread(partial(snapshot.scan, start, end, _EXPORT_ROWS, False, False))
                if not (rows := await asyncio.shield(task)):
                    return
                yield rows
                start = rows[-1][0] + b"\x00"
        finally:
            self._close_behind(task, snapshot)

    async def close(self) -> None:
        """Wait for the threads."""
        await asyncio.to_thread(self._pool.shutdown)

    def _in_thread(self, function: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, function)

    def _close_behind(self, task: asyncio.Future[T] | None, snapshot: Snapshot) -> None:
        # A cancelled caller must not close the snapshot under the thread that still reads it.
        if task is None or task.done():
            self._close(snapshot)
        else:
            task.add_done_callback(lambda _: self._close(snapshot))

    def _close(self, snapshot: Snapshot) -> None:
        snapshot.close()
        self._ground.leave_long()
