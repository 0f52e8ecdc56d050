"""Turns for commits of guests that were outdated again and again.

A guest's transaction reads a durable snapshot, while those of the host read through what is pending: where they write
the same row all the time, the guest's would never hold. A turn lets it commit with nobody else between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from catalog.errors import CatalogError
from catalog.lmdb_engine.writer import Writer

#: A guest that was stopped in its turn must not stop all others.
_SECONDS: Final = 0.25


class Turns:
    """One turn at a time. Belongs to the writer's event loop."""

    def __init__(self, writer: Writer, *, seconds: float = _SECONDS) -> None:
        self._writer = writer
        self._seconds = seconds
        self._one = asyncio.Lock()
        self._over: asyncio.Future[None] | None = None
        #: Who has the turn.
        self.holder: object = None

    async def give(self, holder: object, tell: Callable[[], bool]) -> None:
        """When all that is pending is durable, `tell` the holder, which says whether it is still there, and let nobody
        else commit until `end`, or for as long as a turn may last."""
        writer = self._writer
        async with self._one:
            writer.hold()
            try:
                while writer.pending:
                    with suppress(CatalogError):
                        await writer.pending[0].outcome()
                self.holder = holder
                self._over = asyncio.get_running_loop().create_future()
                if tell():
                    await asyncio.wait((self._over,), timeout=self._seconds)
            finally:
                self.holder = self._over = None
                writer.unhold()

    def end(self, holder: object) -> None:
        """The holder needs its turn no more; nothing happens if it has none."""
        if self.holder is holder and self._over is not None and not self._over.done():
            self._over.set_result(None)
