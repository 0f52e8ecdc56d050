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
from engine.bodies.stage import Slot, Stage
from engine.counters import EngineCounters
from engine.errors import StorageFull
from engine.layout_data import BODY
from engine.records_data import BODY_ROW, BodyRow

T = TypeVar("T")


class AtOnce:
    """Commits bodies that lie in the catalog, for good or until their pack is written."""

    def __init__(
        self, catalog: Catalog, epochs: Epochs, stage: Stage, locations: Locations, counters: EngineCounters
    ) -> None:
        self._catalog, self._epochs, self._stage = catalog, epochs, stage
        self._locations, self._counters = locations, counters
        self._transact: TransactKnown | None = getattr(catalog, "transact_known", None)

    async def commit(self, body: StoredBody, known: Known[T]) -> T | None:
        """See `Bodies.commit_known`."""
        transact, placed = self._transact, body.placed
        if transact is None or not isinstance(placed, Waiting | Inline):
            return None
        row = BodyRow(sealed=placed.sealed) if isinstance(placed, Inline) else None
        slot: Slot | None = None
        living = self._epochs.living
        outcome: T | None = None

        def decide(found: Sequence[bytes | None]) -> dict[bytes, bytes | None] | None:
            nonlocal outcome, row, slot
            decided = known.at_once(found[1:]) if found[0] == living else None
            if decided is None:
                return None
            if row is None:
                assert isinstance(placed, Waiting)
                slot = self._stage.enter(len(placed.sealed), placed.storage_class)
                if slot is None:
                    return None
                row = slot.row
            outcome, writes = decided
            writes[BODY + body.id] = BODY_ROW.encode_new(row)
            if slot is not None:
                writes[slot.key] = body.id + placed.sealed
            reach("pieces-written")
            reach("before-commit")
            return writes

        try:
            if not await transact((self._epochs.state_key, *known.reads), decide):
                return None
        except CommitUnknown as doubt:
            if not await came_through(self._catalog, body.id, doubt):
                raise
        except IN_DOUBT:
            raise  # its rows may be there
        except BaseException as error:
            self._counters.bodies_discarded += 1
            if isinstance(error, CatalogFull):
                raise StorageFull("the catalog has no space") from error
            raise
        finally:
            if slot is not None:
                self._stage.leave(slot)
        reach("after-commit")
        assert row is not None
        self._locations.put(body.id, row)
        self._counters.bodies_staged += slot is not None
        return outcome


async def came_through(catalog: Catalog, body_id: bytes, doubt: CommitUnknown) -> bool:
    """Whether a body's commit went through. Raises `doubt` where that can't be told."""

    async def look(reader: Reader) -> bool:
        return await reader.get(BODY + body_id) is not None

    try:
        return await catalog.read(look)
    except BaseException as error:  # a cancellation, too: as a refusal it would cost the pieces
        raise doubt from error
