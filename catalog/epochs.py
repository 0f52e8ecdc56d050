"""Epochs: which gateway processes live, and how far back their running reads can still see.

Rows, all under EPOCH: "n" → the last epoch given out; "s" ‖ epoch → its state (living, dead), written at registration
and when it is marked dead; "b" ‖ epoch → heartbeat time and read horizon; "i" ‖ epoch → what it tells of itself. Every
commit of a process reads its own state row (`guard`), so marking it dead fences it: once that transaction is durable,
nothing of that process commits. The heartbeat is a row of its own, so that beating does not collide with commits.

Nobody's clock is compared with another's: a process is taken for dead when its heartbeat's row has not changed for so
long, by the monotonic clock of one that kept looking all the while.

A *horizon* is a commit sequence h such that every running read of the process shows at least the commits up to h. A
commit s has been passed by a process when its horizon is ≥ s: no read of it is left that doesn't show s.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Final

from catalog.errors import CatalogUnavailable, EpochLost
from catalog.interface import Catalog, Reader, Transaction
from catalog.keys import prefix_end, read_u64, u64
from catalog.prefixes import EPOCH
from catalog.records import Codec, Record
from core.clock import Clock
from core.workers import WorkerReport, WorkerState

log = logging.getLogger("atoll.catalog")

_LAST: Final = EPOCH + b"n"
_STATES: Final = EPOCH + b"s"
_BEATS: Final = EPOCH + b"b"
_NOTES: Final = EPOCH + b"i"
_SCAN: Final = 1000


class EpochState(enum.IntEnum):
    """What a state row says."""

    LIVING = 1
    DEAD = 2


class StateRow(Record, tag=1, kw_only=True, frozen=True):
    """The state of one epoch."""

    state: EpochState


class BeatRow(Record, tag=1, kw_only=True, frozen=True):
    """A heartbeat: its writer's wall-clock microseconds, which make each differ, and the read horizon at that time."""

    time_us: int
    horizon: int


STATE_ROW: Final = Codec(StateRow)
BEAT_ROW: Final = Codec(BeatRow)


#: Raises where no process may enter.
Check = Callable[[Reader], Awaitable[None]]


class Pin:
    """Keeps what a read may still see from being collected. Take it before the read, release it after the last use
    of what the read showed."""

    __slots__ = ("_out", "sequence")

    def __init__(self, out: dict[int, int], sequence: int) -> None:
        """`out` tells how many pins of each sequence there are, this one among them."""
        self._out: dict[int, int] | None = out
        self.sequence = sequence

    def release(self) -> None:
        """Give the pin back; further calls do nothing."""
        out, self._out = self._out, None
        if out is not None:
            left = out[self.sequence] - 1
            if left:
                out[self.sequence] = left
            else:
                del out[self.sequence]

    def __enter__(self) -> Pin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Epochs:
    """This process's epoch and its view of the others. Use `register`."""

    def __init__(self, catalog: Catalog, clock: Clock, epoch: int, *, alone: bool) -> None:
        self._catalog = catalog
        self._alone = alone
        self._clock = clock
        self._pins: dict[int, int] = {}  # how many pins of each sequence are out
        #: The row that `guard` reads, and what it usually holds.
        self.state_key: Final = _STATES + u64(epoch)
        self.living: Final = STATE_ROW.encode(StateRow(state=EpochState.LIVING))
        self._observed: dict[int, tuple[bytes | None, float]] = {}  # epoch -> its beat, and since when it is that
        self._looked = float("-inf")  # when that was last brought up to date, on the monotonic clock
        #: This process's epoch: the prefix of the names of all pieces that it writes.
        self.epoch = epoch

    @classmethod
    async def register(
        cls, catalog: Catalog, clock: Clock, *, alone: bool | None = None, check: Check | None = None
    ) -> Epochs:
        """Enter a new epoch. When it is `alone` (by default, where no other process can have the catalog open), all
        earlier epochs are marked dead at once; simulations of several gateways on one catalog pass False.

        Epochs grow, and follow the clock in milliseconds so that a catalog restored from a backup does not give out
        again what was given out after the backup. `check` may refuse by an error, in the same transaction.
        """
        now = clock.now_us()

        async def register(txn: Transaction) -> int:
            if check is not None:
                await check(txn)
            last = int.from_bytes(await txn.get(_LAST) or b"", "big")
            epoch = max(last + 1, now // 1000)
            txn.put(_LAST, u64(epoch))
            txn.put(_STATES + u64(epoch), STATE_ROW.encode(StateRow(state=EpochState.LIVING)))
            # Until the first beat the horizon holds back everything from now on.
            txn.put(_BEATS + u64(epoch), BEAT_ROW.encode(BeatRow(time_us=now, horizon=catalog.known_sequence)))
            return epoch

        alone = catalog.exclusive if alone is None else alone
        epochs = cls(catalog, clock, await catalog.transact(register), alone=alone)
        if alone:
            for other in await epochs.live():
                if other != epochs.epoch:
                    await epochs.mark_dead(other)
        return epochs

    # --- commits ---

    async def guard(self, txn: Reader) -> None:
        """Belongs into every transaction that commits pieces of this process. Raises EpochLost if it was marked
        dead: then those pieces may be collected any time, and the process should end."""
        stored = await txn.get(self.state_key)
        if stored != self.living and (stored is None or STATE_ROW.decode(stored).state is not EpochState.LIVING):
            raise EpochLost(f"epoch {self.epoch} of this process was marked dead")

    @property
    def holder(self) -> bytes:
        """This process's name as the holder of leases."""
        return u64(self.epoch)

    @staticmethod
    async def lives(reader: Reader, holder: bytes) -> bool:
        """Whether the epoch that is called `holder` lives: leases of a dead one are free."""
        stored = await reader.get(_STATES + holder)
        return stored is not None and STATE_ROW.decode(stored).state is EpochState.LIVING

    # --- reads ---

    def take_pin(self) -> Pin:
        """Before a read: hold back the collection of anything that the read can show."""
        sequence = self._catalog.known_sequence
        self._pins[sequence] = self._pins.get(sequence, 0) + 1
        return Pin(self._pins, sequence)

    def oldest(self) -> int:
        """This process's horizon now."""
        # Sequences are pinned in rising order, and a dict keeps the order of first insertion.
        return next(iter(self._pins), self._catalog.known_sequence)

    async def all_passed(self, sequence: int) -> bool:
        """Whether no read is left, in any living process, that doesn't show commit `sequence`. What that commit
        removed the last reference to can then be deleted. This process's own reads count as of now, the others' as
        of their last beat."""
        if self.oldest() < sequence:
            return False
        if self._alone and self._catalog.exclusive:
            return True

        async def horizons(reader: Reader) -> list[int]:
            living = [epoch for epoch in await _in_state(reader, EpochState.LIVING) if epoch != self.epoch]
            beats = await reader.get_many([_BEATS + u64(epoch) for epoch in living])
            return [BEAT_ROW.decode(beat).horizon if beat is not None else 0 for beat in beats]

        return all(horizon >= sequence for horizon in await self._catalog.read(horizons))

    # --- life and death ---

    async def beat(self, note: bytes | None = None) -> None:
        """Publish that this process lives, its horizon, and what it tells of itself. Raises EpochLost if it was marked
        dead."""
        beat = BEAT_ROW.encode(BeatRow(time_us=self._clock.now_us(), horizon=self.oldest()))

        async def publish(txn: Transaction) -> None:
            await self.guard(txn)
            txn.put(_BEATS + u64(self.epoch), beat)
            if note is not None:
                txn.put(_NOTES + u64(self.epoch), note)

        await self._catalog.transact(publish)

    async def notes(self) -> dict[int, bytes]:
        """What each living process last told of itself; empty for one that did not yet."""

        async def look(reader: Reader) -> dict[int, bytes]:
            living = await _in_state(reader, EpochState.LIVING)
            notes = await reader.get_many([_NOTES + u64(epoch) for epoch in living])
            return {epoch: note or b"" for epoch, note in zip(living, notes, strict=True)}

        return await self._catalog.read(look)

    async def live(self) -> list[int]:
        """All living epochs, oldest first."""
        return await self._catalog.read(lambda reader: _in_state(reader, EpochState.LIVING))

    async def dead(self) -> list[int]:
        """All epochs that are dead but not forgotten, oldest first: their uncommitted pieces may be collected."""
        return await self._catalog.read(lambda reader: _in_state(reader, EpochState.DEAD))

    async def mark_dead(self, epoch: int) -> None:
        """From the return of this on, nothing of `epoch` commits any more. An unknown epoch stays unknown."""

        async def mark(txn: Transaction) -> None:
            if await txn.get(_STATES + u64(epoch)) is not None:
                _bury(txn, epoch)

        await self._catalog.transact(mark)

    async def mark_expired(self, expiry: float) -> list[int]:
        """Mark dead every other epoch that was not seen to beat for `expiry` seconds; returns them.

        To be called several times in that span. What happened while this process did not look (because it was stopped,
        or the catalog out of reach for all) tells nothing of the others, so after a gap the count begins anew.
        """
        beats = await self._catalog.read(_beats_of_the_living)
        now = self._clock.monotonic()
        if now - self._looked > expiry / 2:
            self._observed.clear()
        self._looked = now
        former, self._observed = self._observed, {}
        for epoch, beat in beats:
            seen = former.get(epoch)
            self._observed[epoch] = seen if seen is not None and seen[0] == beat else (beat, now)
        silent = {
            epoch: beat
            for epoch, (beat, since) in self._observed.items()
            if epoch != self.epoch and now - since >= expiry
        }
        if not silent:
            return []

        async def mark(txn: Transaction) -> list[int]:
            expired = []
            states = await txn.get_many([_STATES + u64(epoch) for epoch in silent])
            now_beats = await txn.get_many([_BEATS + u64(epoch) for epoch in silent])
            for (epoch, beat), state, now_beat in zip(silent.items(), states, now_beats, strict=True):
                if now_beat == beat and state == self.living:
                    _bury(txn, epoch)
                    expired.append(epoch)
            return expired

        return await self._catalog.transact(mark)

    async def forget(self, epoch: int) -> None:
        """A dead epoch's pieces are collected: drop its row. It stays fenced, for a missing row refuses too."""

        async def forget(txn: Transaction) -> None:
            stored = await txn.get(_STATES + u64(epoch))
            if stored is not None and STATE_ROW.decode(stored).state is EpochState.DEAD:
                txn.delete(_STATES + u64(epoch))

        await self._catalog.transact(forget)

    async def enter_dead(self, epochs: Iterable[int]) -> list[int]:
        """Enter, as dead, those of `epochs` that have no row; returns them. Such ones were forgotten, or came after the
        backup that the catalog was restored from: either way nothing of them commits. Only for epochs whose pieces were
        seen, since an epoch has its row before its first piece."""
        seen = sorted(set(epochs))

        async def enter(txn: Transaction) -> list[int]:
            unknown = [epoch for epoch in seen if await txn.get(_STATES + u64(epoch)) is None]
            for epoch in unknown:
                txn.put(_STATES + u64(epoch), STATE_ROW.encode(StateRow(state=EpochState.DEAD)))
            return unknown

        return await self._catalog.transact(enter)

    async def close(self) -> None:
        """An orderly end: this epoch is dead."""
        await self.mark_dead(self.epoch)


class EpochKeeper:
    """Worker that beats for this process and marks others dead that were not seen to beat for `expiry` seconds.

    `lost` is told once when this process itself was declared dead: nothing that it writes is committed any more, and it
    has to begin anew. `note` gives what this process tells of itself.
    """

    def __init__(
        self,
        epochs: Epochs,
        *,
        interval: float = 3,
        expiry: float = 15,
        lost: Callable[[], None] | None = None,
        note: Callable[[], bytes] | None = None,
    ) -> None:
        self.name = "epochs"
        self.interval = interval
        self._epochs = epochs
        self._expiry = expiry
        self._lost = lost
        self._note = note
        self._marked = 0

    async def turn(self) -> WorkerState:
        """One beat, and a look at the others. Raises EpochLost when this process was declared dead. A catalog out of
        reach is no failure, after which beats would come more seldom: the others don't wait."""
        try:
            await self._epochs.beat(self._note() if self._note is not None else None)
            self._marked += len(await self._epochs.mark_expired(self._expiry))
        except EpochLost:
            lost, self._lost = self._lost, None
            if lost is not None:
                lost()
            raise
        except CatalogUnavailable as error:
            log.warning("no heartbeat: %s", error)
        return WorkerState.IDLE

    def report(self) -> WorkerReport:
        return WorkerReport(progress=f"epoch {self._epochs.epoch}", counters={"marked_dead": self._marked})


async def bury_all(txn: Transaction) -> None:
    """Mark every epoch dead, in a catalog that none of their processes can enter: it was copied from theirs."""
    for epoch in await _in_state(txn, EpochState.LIVING):
        _bury(txn, epoch)


def _bury(txn: Transaction, epoch: int) -> None:
    txn.put(_STATES + u64(epoch), STATE_ROW.encode(StateRow(state=EpochState.DEAD)))
    txn.delete(_BEATS + u64(epoch))
    txn.delete(_NOTES + u64(epoch))


async def _in_state(reader: Reader, state: EpochState) -> list[int]:
    rows = await reader.scan(_STATES, prefix_end(_STATES), limit=_SCAN)
    return [read_u64(key, len(_STATES))[0] for key, value in rows if STATE_ROW.decode(value).state is state]


async def _beats_of_the_living(reader: Reader) -> list[tuple[int, bytes | None]]:
    living = await _in_state(reader, EpochState.LIVING)
    beats = await reader.get_many([_BEATS + u64(epoch) for epoch in living])
    return list(zip(living, beats, strict=True))
