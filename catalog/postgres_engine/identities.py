"""The ids of commits: a shard, the database's time, and random bits.

Ids sort by time within a shard, so that a look at what is new skips over all that was there before, also over dead rows
that the database could not yet remove. The random shard spreads the newest rows where a database is spread by key.
"""

from __future__ import annotations

import random
import time
from typing import Final

SHARDS: Final = 8
_RANDOM: Final = 8


class Identities:
    """Gives out ids, and keeps the database's time."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        self._offset_us = 0
        self._last_us = 0

    def hear(self, database_us: int, asked: float, answered: float) -> None:
        """The database said its time: somewhere between the two monotonic seconds."""
        self._offset_us = database_us - int((asked + answered) / 2 * 1e6)

    def now_us(self) -> int:
        """The database's wall clock, microseconds since the Unix epoch, as far as it is known."""
        return int(time.monotonic() * 1e6) + self._offset_us

    def new(self) -> bytes:
        """An id that sorts behind all that this process gave out, within a shard."""
        self._last_us = max(self._last_us + 1, self.now_us())
        shard = bytes((self._random.randrange(SHARDS),))
        return shard + self._last_us.to_bytes(8, "big") + self._random.randbytes(_RANDOM)

    @staticmethod
    def time_us(identity: bytes) -> int:
        """When the id was given out."""
        return int.from_bytes(identity[1:9], "big")

    @staticmethod
    def order(identity: bytes) -> bytes:
        """What ids of all shards are sorted by."""
        return identity[1:]

    @staticmethod
    def ranges(start_us: int = 0, end_us: int | None = None) -> tuple[list[bytes], list[bytes]]:
        """Lows and highs of the ids given out in start ≤ time < end, a range for each shard."""
        low = max(0, start_us).to_bytes(8, "big")
        high = b"\xff" * 9 if end_us is None else max(0, end_us).to_bytes(8, "big")
        shards = [bytes((shard,)) for shard in range(SHARDS)]
        return [shard + low for shard in shards], [shard + high for shard in shards]
