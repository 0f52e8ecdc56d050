"""How fast and how long: bandwidth, and patience with a source that does not answer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.migrate.errors import SourceDown

T = TypeVar("T")

_FIRST_PAUSE = 0.25  # seconds
_LONGEST_PAUSE = 15.0


class Bandwidth:
    """At most so many bytes a second together, 0 for no limit; a second's worth may go at once."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._free_at = 0.0

    async def take(self, count: int) -> None:
        """Wait until `count` more bytes may have come."""
        if self.rate <= 0:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now - 1.0) + count / self.rate
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


class Backoff:
    """Pauses that double, until `seconds` have gone by since the last success."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.reset()

    def reset(self) -> None:
        """Something was had from the source."""
        self._since = time.monotonic()
        self._pause = _FIRST_PAUSE

    async def wait(self, error: SourceDown) -> None:
        """Pause before another try; raises `error` once patience has run out."""
        pause = self._pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads tries, hides nothing
        if time.monotonic() + pause > self._since + self._seconds:
            raise error
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        await asyncio.sleep(pause)


async def patiently(operation: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Try until it answers; raises the last SourceDown after `seconds`, and anything else at once."""
    backoff = Backoff(seconds)
    while True:
        try:
            return await operation()
        except SourceDown as error:
            await backoff.wait(error)
