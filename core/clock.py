"""Time as a port, so that tests and simulations can own it."""

from __future__ import annotations

import time
from collections.abc import Callable
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


class SharedClock:
    """Somebody else's wall clock, which several machines go by, beside the machine's own monotonic one."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self.now_us = now_us

    def monotonic(self) -> float:
        return time.monotonic()
