"""A clock that tests own."""

from __future__ import annotations

import time


class ManualClock:
    """Stands still until told."""

    def __init__(self, seconds: float = 1_000_000.0) -> None:
        self.seconds = seconds

    def now_us(self) -> int:
        return int(self.seconds * 1e6)

    def monotonic(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

    def jump_to_now(self) -> None:
        """The machine's time, for catalogs that have their own clock."""
        self.seconds = time.time()
