"""Something whose outcome tasks wait for, and can't be cancelled away from."""

from __future__ import annotations

import asyncio


class Settling:
    """Not finished at first; `finish` tells all that wait in `outcome`. Belongs to one event loop."""

    __slots__ = ("error", "finished", "waiters")

    def __init__(self) -> None:
        self.waiters: list[asyncio.Future[None]] = []
        self.finished = False
        self.error: Exception | None = None

    def finish(self, error: Exception | None) -> None:
        """Tell all that wait how it ended."""
        self.finished, self.error = True, error
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.waiters.clear()

    async def outcome(self) -> None:
        """Until it is finished. Raises the error that it ended with.

        A cancellation is held back until then, and delivered at the caller's next await."""
        cancelled = False
        loop = asyncio.get_running_loop()
        while not self.finished:
            waiter = loop.create_future()
            self.waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            task.cancel()
        if self.error is not None:
            raise self.error
