"""Once a deployment is quiet, a chain that takes much more room than its catalog's rows would is followed by a base.

Chains hold what was true in between, too: bodies that waited for their pack, rows that were overwritten or deleted.
While changes come that is bounded by sizes that are nothing beside a large store, but much beside a small one. What a
new base would take is known only by reading the rows: a run at a time, as far as they are few enough to be worth it.
That is done again once the chain has grown by some share, and the later, the longer it took.

A base is begun only where it takes a quarter less than the chain: so all that are written in quiet times take together
at most three times the room that they made, which changes had taken before.
"""

from __future__ import annotations

from typing import Final

from catalog.interface import Catalog
from core.clock import Clock
from engine.errors import StorageFull, Unavailable
from engine.snapshots.capture import PART_BYTES, base_run, size_of
from engine.snapshots.rows import ChainRow
from engine.snapshots.writing import ShardWriter

#: Quiet is when for so many seconds, or the time of so many points, changes took no more than so many bytes.
_QUIET: Final = 20.0
_QUIET_POINTS: Final = 5
_TRICKLE: Final = 64 << 10
#: A base is worth it when it takes at most this share of the chain, and so many bytes less.
_SHARE: Final = 0.75
_LEAST: Final = 1 << 20
#: Rows are read again once the chain grew by this share: nothing makes room in them without changes.
_GROWN: Final = 1 / 32
#: Seconds between two times that the rows are read, or so many times what it took.
_PAUSE: Final = 60.0
_PAUSE_FACTOR: Final = 100.0


class Quiet:
    """Watches the active chain and weighs it. `every`: seconds between two points."""

    def __init__(self, catalog: Catalog, writer: ShardWriter, clock: Clock, every: float) -> None:
        self._catalog = catalog
        self._writer = writer
        self._clock = clock
        self._patience = max(_QUIET, _QUIET_POINTS * every)
        self._chain = self._bytes = 0  # the active chain, and its changes when the quiet began
        self._since = clock.monotonic()
        self._reading: tuple[bytes, int, float] | None = None  # rows up to a key, their bytes, when that was begun
        self._next = self._since  # when rows may be read again
        self._judged = (0, 0)  # a chain that was found to be no larger than it should, and its bytes then
        self._bulky = 0  # the chain for which a new base is worth it

    def watch(self, chain: ChainRow | None) -> bool:
        """Whether the deployment is quiet."""
        now = self._clock.monotonic()
        if chain is None:
            self._since = now
        elif chain.id != self._chain:  # it tells the same changes as the one before
            self._chain, self._bytes = chain.id, chain.change_bytes
        elif chain.change_bytes - self._bytes > _TRICKLE:
            self._bytes, self._since = chain.change_bytes, now
        return now - self._since >= self._patience

    def is_bulky(self, chain: ChainRow) -> bool:
        """Whether a new base was found to take much less than the chain does."""
        return chain.id == self._bulky

    def forget(self) -> None:
        """What was found out is out of date: a chain is begun, or the quiet has ended."""
        if self._reading is not None:
            now, began = self._clock.monotonic(), self._reading[2]
            self._next = now + max(_PAUSE, _PAUSE_FACTOR * (now - began))
        self._reading, self._bulky = None, 0

    async def judge(self, chain: ChainRow, *, forced: bool) -> bool:
        """Read some rows, if that is due, or `forced`; False where there is nothing more to find out."""
        taken = chain.base_bytes + chain.change_bytes
        most = min(_SHARE * taken, taken - _LEAST)
        if self.is_bulky(chain) or most <= 0:
            return False
        if self._reading is None:
            now, (number, then) = self._clock.monotonic(), self._judged
            grown = number != chain.id or taken - then >= _GROWN * taken
            if not (forced or (grown and now >= self._next)):
                return False
            self._reading = (b"", 0, now)
        cursor, size, began = self._reading
        content, cursor, ended = await base_run(self._catalog, cursor)
        size += size_of(content.puts)
        try:
            needed = size * self._writer.stretch(max(size, PART_BYTES))
        except (StorageFull, Unavailable):  # there is no room for a base now, but may be later
            self.forget()
            return False
        if needed > most or ended:
            self.forget()
            if needed <= most:
                self._bulky = chain.id
            else:
                self._judged = (chain.id, taken)
            return needed <= most
        self._reading = (cursor, size, began)
        return True
