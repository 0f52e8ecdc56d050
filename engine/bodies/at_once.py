"""Committing one small body at once: one look at the catalog, and its rows with whatever names it.

The usual small write brings a body to a key that had nothing. What such a transaction reads is known before it begins,
so it needs no function that is run and may have to run again: engines that offer `transact_known` take it in one step.
Everything else goes by `BodyStore.commit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from catalog.epochs import Epochs
from catalog.errors import IN_DOUBT, CatalogFull, CommitUnknown
from catalog.interface import Catalog, Reader, TransactKnown
from core.crashpoints import reach
from engine.bodies.interface import Known, StoredBody
from engine.bodies.locations import Locations
from engine.bodies.placed import Inline, Waiting
from engine.bodies.stage import Stage
from engine.counters import EngineCounters
from engine.errors import StorageFull
from engine.layout_data import BODY, STAGED, staged_value
from engine.records_data import BODY_ROW, BodyRow

T = TypeVar("T")


class AtOnce:
    """Commits bodies that lie in their catalog row."""

    def __init__(
        self, catalog: Catalog, epochs: Epochs, stage: Stage, locations: Locations, counters: EngineCounters
    ) -> None:
        self._catalog, self._epochs, self._stage = catalog, epochs, stage
        self._locations, self._counters = locations, counters
        self._transact: TransactKnown | None = getattr(catalog, "transact_known", None)

    async def commit(self, body: StoredBody, known: Known[T]) -> T | None:
        """See `Bodies.commit_known`."""
        transact, placed = self._transact, body.placed
        staged, storage_class = 0, ""
        if transact is None:
            return None
        if isinstance(placed, Waiting):
            staged, storage_class = len(placed.sealed), placed.storage_class
            if not self._stage.enter(staged, storage_class):
                return None
        elif not isinstance(placed, Inline):
            return None
        row = BodyRow(sealed=bytes(placed.sealed))
        living = self._epochs.living
        outcome: T | None = None

        def decide(found: Sequence[bytes | None]) -> dict[bytes, bytes | None] | None:
            nonlocal outcome
            decided = known.at_once(found[1:]) if found[0] == living else None
            if decided is None:
                return None
            outcome, writes = decided
            writes[BODY + body.id] = BODY_ROW.encode_new(row)
            if staged:
                writes[STAGED + body.id] = staged_value(staged, storage_class)
            return writes

        reach("pieces-written")
        reach("before-commit")
        try:
            if not await transact((self._epochs.state_key, *known.reads), decide):
                self._stage.leave(staged)
                return None
        except CommitUnknown as doubt:
            if not await came_through(self._catalog, body.id, doubt):
                raise
        except IN_DOUBT:
            raise  # its rows may be there
        except BaseException as error:
            self._stage.leave(staged)
            self._counters.bodies_discarded += 1
            if isinstance(error, CatalogFull):
                raise StorageFull("the catalog has no space") from error
            raise
        reach("after-commit")
        self._locations.put(body.id, row)
        if staged:
            self._counters.bodies_staged += 1
            self._stage.committed(body.id, staged)
        return outcome


async def came_through(catalog: Catalog, body_id: bytes, doubt: CommitUnknown) -> bool:
    """Whether a body's commit went through. Raises `doubt` where that can't be told."""

    async def look(reader: Reader) -> bool:
        return await reader.get(BODY + body_id) is not None

    try:
        return await catalog.read(look)
    except BaseException as error:  # a cancellation, too: as a refusal it would cost the pieces
        raise doubt from error
