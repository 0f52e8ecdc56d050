"""Limits on what one client may ask for, and on how long it may take."""

from __future__ import annotations

from dataclasses import dataclass


class KeyLimiter:
    """At most `limit` requests under way for each key (an access key, an address); 0 is no limit.

    Every `enter` that returned True is paired with one `leave`. Memory is bounded by the requests under way.
    """

    __slots__ = ("_limit", "_under_way", "refused")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._under_way: dict[str, int] = {}
        self.refused = 0

    def enter(self, key: str) -> bool:
        """Count one more for `key`; False, counting nothing, when it has its limit already."""
        count = self._under_way.get(key, 0)
        if self._limit and count >= self._limit:
            self.refused += 1
            return False
        self._under_way[key] = count + 1
        return True

    def leave(self, key: str) -> None:
        count = self._under_way[key] - 1
        if count:
            self._under_way[key] = count
        else:
            del self._under_way[key]


class TokenBucket:
    """A rate: `rate` a second on average, `burst` at once."""

    __slots__ = ("_burst", "_rate", "_time", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._time = burst, now

    def take(self, now: float) -> bool:
        """Take one token at `now` (monotonic seconds), or say that there is none."""
        self._tokens = min(self._burst, self._tokens + (now - self._time) * self._rate)
        self._time = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, but for `rate`: bytes a second."""

    headers: float = 30.0
    idle: float = 75.0
    body: float = 30.0
    rate: int = 512
