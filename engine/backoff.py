"""When what was refused is tried again: later each time, and not all at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

#: Seconds until the first try again, and between tries in the end.
FIRST = 10.0
MOST = 3600.0
_HIGHEST = 20  # refusals that still make the pause longer


class Backoff(Generic[K]):
    """Remembers refusals of at most `limit` keys, in memory only; forgetting one means that it is tried sooner.

    The pause doubles from `first` to `most` seconds; of each, half is fixed and half by chance.
    """

    def __init__(
        self,
        *,
        first: float = FIRST,
        most: float = MOST,
        limit: int = 100_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first, self._most, self._limit, self._monotonic = first, most, limit, monotonic
        self._refused: dict[K, tuple[int, float]] = {}  # key -> refusals, and when it is due again

    def __len__(self) -> int:
        return len(self._refused)

    def is_due(self, key: K) -> bool:
        """Whether a key may be tried now."""
        known = self._refused.get(key)
        return known is None or known[1] <= self._monotonic()

    def refused(self, key: K) -> None:
        """A key was tried and refused."""
        times = self._refused.pop(key, (0, 0.0))[0] + 1
        if len(self._refused) >= self._limit:
            del self._refused[next(iter(self._refused))]  # whose last refusal is the longest ago
        pause = min(self._most, self._first * 2 ** (min(times, _HIGHEST) - 1))
        self._refused[key] = times, self._monotonic() + pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load

    def settled(self, key: K) -> None:
        """A key was tried and not refused."""
        self._refused.pop(key, None)

    def forget(self, which: Callable[[K], bool] = lambda _: True) -> None:
        """Let the keys that `which` picks, or all, be tried at once."""
        for key in [key for key in self._refused if which(key)]:
            del self._refused[key]
