"""The stage: small bodies wait in the catalog for their pack, so that their writes need not wait for nodes.

A small body's commit writes its row anyway, and that row can carry the sealed bytes. So it is acknowledged after one
durable commit; `engine.settling` then writes many such bodies as one pack. What is lost with the catalog is no more
than before: without their rows the pieces on nodes could not be read either.

How much may wait is bounded. Beyond that, and whenever no node set could take the body now, a body goes the direct way
(`engine.packs`), which waits, or refuses, as it must.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from engine.classes import StorageClasses
from engine.errors import StorageFull, Unavailable
from engine.ports import Placer
from engine.segments.write import choose_target

#: Sealed bytes up to which a body may be staged: one frame of 64 KiB.
BODY_LIMIT = (64 << 10) + 16
#: Sealed bytes that may wait in all, and from which on they are much: settling is asked to begin at once.
LIMIT = 64 << 20
MUCH = 16 << 20
#: Seconds for which the answer is kept whether nodes could take a body.
_FRESH = 0.1


class Stage:
    """Who may be staged. One for the process; `waiting` is what it staged and knows of no move yet, in sealed bytes.

    `limit` 0 lets nobody in: on a catalog that many gateways share its rows are dearer than pieces.
    """

    def __init__(
        self,
        placer: Placer,
        classes: StorageClasses,
        *,
        limit: int = LIMIT,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._placer, self._classes, self._limit, self._monotonic = placer, classes, limit, monotonic
        self._looked: dict[str, tuple[float, bool]] = {}
        self.waiting = 0
        #: Called when much waits, for each body that adds to it.
        self.settle: Callable[[], object] = lambda: None
        #: Another process settles what this one stages (`engine.settling.SettledElsewhere`).
        self.settled_elsewhere = False
        #: What was committed and is not known to have moved, where that is so: body id and sealed bytes.
        self.staged: deque[tuple[bytes, int]] = deque()

    @property
    def much(self) -> bool:
        return self.waiting >= MUCH

    def enter(self, size: int, storage_class: str) -> bool:
        """Whether `size` sealed bytes may be staged; if so they count as waiting until `leave`."""
        if size > BODY_LIMIT or self.waiting + size > self._limit or not self._takeable(storage_class):
            return False
        self.waiting += size
        if self.much:
            self.settle()
        return True

    def committed(self, body_id: bytes, size: int) -> None:
        """A body that entered is staged for good."""
        if self.settled_elsewhere:
            self.staged.append((body_id, size))

    def leave(self, size: int) -> None:
        """So many bytes wait no longer: moved, dead, or never committed. More than is known to wait is nothing new:
        a process that ended before left them."""
        self.waiting = max(0, self.waiting - size)

    def _takeable(self, storage_class: str) -> bool:
        """Whether nodes could take a pack now: what they would refuse must be refused before it is acknowledged."""
        now = self._monotonic()
        seen = self._looked.get(storage_class)
        if seen is not None and now - seen[0] < _FRESH:
            return seen[1]
        kind = self._classes.get(storage_class)
        try:
            choose_target(self._placer, kind, self._limit)
        except (Unavailable, StorageFull):
            takeable = False
        else:
            takeable = True
        self._looked[storage_class] = (now, takeable)
        return takeable
