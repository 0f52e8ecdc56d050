"""The stage: small bodies wait in the catalog for their pack, so that their writes need not wait for nodes.

A *draft* is a pack that has its id and gives out places in it before it is written. A staged body's row says from the
first where it will be in the pack; until then its bytes are a row of their own (STAGED), which goes into the same
commit. So a small write is acknowledged after one durable commit, and settling (`engine.settling`) writes a whole draft
at once without touching its members' rows. What is lost with the catalog is no more than before: without their rows
the pieces on nodes could not be read either.

A draft has a row before its first member. It takes no more once it is full, or its first member has waited for long;
once the commits of all its members have ended it is closed, and may be settled. That transaction comes behind theirs,
in a catalog that commits in order: so it holds also for a commit whose caller was cancelled. Drafts of a process whose
epoch is dead need not be closed, for nothing of it commits any more.

How much may wait is bounded. Beyond that, and whenever no node set could take the body now, a body goes the direct way
(`engine.packs`), which waits, or refuses, as it must.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from catalog.epochs import Epochs
from catalog.interface import Catalog, Reader, Transaction
from core.ids import new_id
from core.workers import WorkerReport, WorkerState
from engine.classes import StorageClasses
from engine.errors import StorageFull, Unavailable
from engine.layout_data import DRAFT, staged_key
from engine.ports import Placer
from engine.records_data import DRAFT_ROW, BodyRow, DraftRow, DraftState
from engine.segments.write import choose_target

#: Sealed bytes up to which a body may be staged: one frame of 64 KiB.
BODY_LIMIT = (64 << 10) + 16
#: Sealed bytes that may wait in all, and with which a draft is full: compaction leaves packs of this size alone.
LIMIT = 64 << 20
FULL = 16 << 20
#: Seconds after its first member came until a draft takes no more.
_PATIENCE = 0.75
#: Seconds until what the catalog refused is tried again.
_AGAIN = 1.0
#: Seconds for which the answer is kept whether nodes could take a body.
_FRESH = 0.1


@dataclass(slots=True, eq=False)
class Draft:
    """One draft of this process. `size`: sealed bytes of the places given out."""

    id: bytes
    storage_class: str
    size: int = 0
    since: float = 0.0  # when the first place was given out
    under_way: int = 0  # commits of members that have not ended


class Slot(msgspec.Struct, frozen=True, gc=False):
    """A body's place in a draft."""

    draft: Draft
    offset: int
    length: int

    @property
    def key(self) -> bytes:
        """Of the row that holds the bytes until the draft is settled; see `engine.layout_data.STAGED`."""
        return staged_key(self.draft.id, self.offset)

    @property
    def row(self) -> BodyRow:
        """The body's own row, now and after."""
        return BodyRow(slice=(self.draft.id, self.offset, self.length))


@dataclass(slots=True)
class _Drafts:
    """Of one storage class: the one that is filled now, and the next."""

    current: Draft | None = None
    spare: Draft | None = None


class Stage:
    """Who may be staged, and where. One for the process; `waiting` is what it staged and does not know to be settled,
    in sealed bytes. `limit` 0 lets nobody in: on a catalog that many gateways share its rows are dearer than pieces.

    As a worker, named `stage`, it opens drafts, closes them, and lets go of those that another process has settled.
    """

    name = "stage"
    interval = 0.25

    def __init__(
        self,
        catalog: Catalog,
        epochs: Epochs,
        placer: Placer,
        classes: StorageClasses,
        *,
        limit: int = LIMIT,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog, self._epochs, self._placer, self._classes = catalog, epochs, placer, classes
        self._limit, self._monotonic = limit, monotonic
        self._looked: dict[str, tuple[float, bool]] = {}
        self._drafts = {name: _Drafts() for name in classes.classes} if limit else {}
        self._done: list[Draft] = []  # they take no more, and are to be closed
        self._closed: dict[bytes, Draft] = {}  # they are to be settled
        self._writing = asyncio.Lock()
        self._not_before = 0.0
        self.waiting = 0
        #: Called when this worker is wanted before its time, and when a draft may be settled.
        self.wake: Callable[[], object] = lambda: None
        self.settle: Callable[[], object] = lambda: None

    def enter(self, size: int, storage_class: str) -> Slot | None:
        """A place for `size` sealed bytes if they may be staged; `leave` has to follow."""
        if size > BODY_LIMIT or self.waiting + size > self._limit or not self._takeable(storage_class):
            return None
        drafts = self._drafts[storage_class]
        draft = drafts.current
        if draft is None:
            self.wake()
            return None
        offset = draft.size
        if not offset:
            draft.since = self._monotonic()
        draft.size += size
        draft.under_way += 1
        self.waiting += size
        if draft.size >= FULL:
            self._turn_over(drafts)
        return Slot(draft, offset, size)

    def leave(self, slot: Slot) -> None:
        """The commit of what entered has ended, one way or the other."""
        draft = slot.draft
        draft.under_way -= 1
        if self._done and not draft.under_way and draft in self._done:
            self.wake()

    def settled(self, pack: bytes) -> None:
        """A draft, of whatever process, was settled."""
        draft = self._closed.pop(pack, None)
        if draft is not None:
            self.waiting -= draft.size

    # --- the worker ---

    async def turn(self) -> WorkerState:
        now = self._monotonic()
        for drafts in self._drafts.values():
            if drafts.current is not None and drafts.current.size and now - drafts.current.since >= _PATIENCE:
                self._turn_over(drafts)
        await self._write()
        await self._look_for_settled()
        return WorkerState.IDLE

    async def hand_over(self) -> None:
        """Close at once whatever has members, but for those that are being committed."""
        for drafts in self._drafts.values():
            if drafts.current is not None and drafts.current.size:
                self._turn_over(drafts)
        await self._write()

    def report(self) -> WorkerReport:
        return WorkerReport(progress=f"{self.waiting} bytes wait", counters={"waiting": self.waiting})

    def _turn_over(self, drafts: _Drafts) -> None:
        if drafts.current is not None:
            self._done.append(drafts.current)
        drafts.current, drafts.spare = drafts.spare, None
        self.wake()

    async def _write(self) -> None:
        """Close what can be closed and open what lacks, in one transaction. The worker and those who want all closed
        may come at once: the second then finds less to do."""
        async with self._writing:
            await self._write_alone()

    async def _write_alone(self) -> None:
        closing = [draft for draft in self._done if not draft.under_way]
        opening = [
            Draft(new_id(), name)
            for name, drafts in self._drafts.items()
            for _ in range((drafts.current is None) + (drafts.spare is None))
        ]
        now = self._monotonic()
        if (not closing and not opening) or now < self._not_before:
            return
        self._not_before = now + _AGAIN

        async def write(txn: Transaction) -> None:
            await self._epochs.guard(txn)
            for draft in closing:
                value = await txn.get(DRAFT + draft.id)
                # Else an earlier commit, which was in doubt, closed it: its pack may have been written since.
                if value is not None and DRAFT_ROW.decode(value).state is DraftState.OPEN:
                    txn.put(DRAFT + draft.id, self._row(draft, DraftState.CLOSED))
            for draft in opening:
                txn.put(DRAFT + draft.id, self._row(draft, DraftState.OPEN))

        await self._catalog.transact(write)
        self._not_before = now
        for draft in closing:
            self._done.remove(draft)
            self._closed[draft.id] = draft
        for draft in opening:
            drafts = self._drafts[draft.storage_class]
            if drafts.current is None:
                drafts.current = draft
            else:
                drafts.spare = draft
        if closing:
            self.settle()

    def _row(self, draft: Draft, state: DraftState) -> bytes:
        return DRAFT_ROW.encode(DraftRow(epoch=self._epochs.epoch, storage_class=draft.storage_class, state=state))

    async def _look_for_settled(self) -> None:
        closed = list(self._closed)

        async def look(reader: Reader) -> list[bytes | None]:
            return await reader.get_many([DRAFT + pack for pack in closed])

        for pack, row in zip(closed, await self._catalog.read(look) if closed else (), strict=True):
            if row is None:
                self.settled(pack)

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
