"""Small writes gather in the host, where the catalog is written, as long as that has time for them.

A guest hands over connections that have shown to bring small writes, as many as the host had room for at its last
pulse. The host gives back those that bring something else by now, and some more when its event loop has no time left.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final

from core.http.moving import SHOWN

#: The host takes no more when its event loop takes this much of a processor, and gives back above the other.
BUSY: Final = 0.75
OVERLOADED: Final = 0.97
#: Connections that a guest may hand over, or the host give back, between two pulses.
STEP: Final = 8

_Hand = Callable[[socket.socket], bool]


class Load:
    """How much of a processor the thread of this event loop takes."""

    def __init__(self) -> None:
        self._wall, self._used = time.monotonic(), time.thread_time()

    def share(self) -> float:
        """Since the last call, or the beginning: 1.0 is all of one processor."""
        wall, used = time.monotonic(), time.thread_time()
        share = (used - self._used) / max(wall - self._wall, 1e-6)
        self._wall, self._used = wall, used
        return share


class ToHost:
    """The `core.http.moving.Mover` of a guest. `room`: connections that the host takes yet."""

    def __init__(self, hand: _Hand) -> None:
        self._hand = hand
        self.room = 0

    def wants(self, leaning: int, moved: bool) -> bool:
        return leaning == SHOWN and self.room > 0

    def move(self, connection: socket.socket) -> bool:
        if self.room <= 0 or not self._hand(connection):
            return False
        self.room -= 1
        return True


class FromHost:
    """The `core.http.moving.Mover` of the host. `excess`: connections to give back whatever they bring."""

    def __init__(self, hand: _Hand) -> None:
        self._hand = hand
        self.excess = 0

    def wants(self, leaning: int, moved: bool) -> bool:
        return moved and (leaning == -SHOWN or self.excess > 0)

    def move(self, connection: socket.socket) -> bool:
        if not self._hand(connection):
            return False
        self.excess = max(0, self.excess - 1)
        return True

    def judge(self, share: float) -> bool:
        """What the host's load means for those it has taken; whether it can take more."""
        self.excess = STEP if share > OVERLOADED else 0
        return share < BUSY
