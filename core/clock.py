"""Time as a port, so that tests and simulations can own it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the program reads time."""

    def now_us(self) -> int:
        """Wall-clock microseconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()
