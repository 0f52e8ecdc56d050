"""Waking tasks that wait for the next commit, without polling."""

from __future__ import annotations

import asyncio


class SequenceWaiters:
    """Tasks of one event loop that wait for a commit."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Until the next `wake`."""
        future = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        try:
            await future
        finally:
            if not future.done() or future.cancelled():
                self._futures = [other for other in self._futures if other is not future]

    def wake(self) -> None:
        """Let all that wait now go on."""
        futures, self._futures = self._futures, []
        for future in futures:
            if not future.done():
                future.set_result(None)
