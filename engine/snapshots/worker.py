"""The worker that keeps the catalog's snapshots on the nodes fresh. Named `snapshots`; runs under a lease.

A turn brings the active chain up to date, or takes one step towards the next chain: a run of its base, a few parts read
back. The next chain takes over when all of it was read back; the former one is deleted when its time has come, or once
nothing changes (see quiet.py), if it takes much room. What a turn stores is durable on the nodes before the catalog
says so: cut short anywhere, the next turn writes the same part again under other names, and a restore follows the one
that the chain goes on from. The first turn of a process looks whether the nodes hold anything newer than the catalog is
(see descent.py), and so does one that finds a node back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from catalog.errors import FeedTrimmed
from catalog.feed import FeedConsumer
from catalog.hold import held
from catalog.interface import Catalog, Reader, Transaction
from core.clock import Clock
from core.crashpoints import reach
from core.workers import WorkerReport, WorkerState
from engine.ports import Placer
from engine.snapshots.chains import ChainWriter, NotWhole, RootKeys
from engine.snapshots.descent import outrank
from engine.snapshots.freshness import Freshness
from engine.snapshots.parts import first_link
from engine.snapshots.quiet import Quiet
from engine.snapshots.retention import Retention
from engine.snapshots.rows import CONSUMER, STATE_KEY, STATE_ROW, ChainRow, StateRow, read_state
from engine.snapshots.survey import survey

log = logging.getLogger("atoll.snapshots")

#: A new base is due once changes take this many times the base's bytes, but at least so many bytes.
_GROWTH: Final = 1.0
_GROWTH_BYTES: Final = 16 << 20
#: …or once there are so many parts of changes, or one for so many bytes of the base: their number bounds a restore too.
_GROWTH_PARTS: Final = 1000
_BYTES_A_PART: Final = 64 << 10
#: A base that nothing changed is written anew after so many seconds all the same: it may have rotted.
_LONGEST_AGE: Final = 7 * 86_400.0
#: Seconds before a new chain is begun after one that could not be read back; doubled each time.
_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 600.0
_AT_ONCE: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class SnapshotLimits:
    """Seconds. `every`: between two points while there are changes. `retention`: what was deleted is out of all
    snapshots after that; half of it a chain may grow old, the other half it is kept at the most when another took its
    place."""

    every: float = 4.0
    retention: float = 86_400.0


class SnapshotWorker:
    """See above. `root` gives the root key's keys as of now: a rotation begins a new chain. `leaving` gives the nodes
    that are being emptied: a new chain, without them, is begun."""

    name = "snapshots"

    def __init__(
        self,
        catalog: Catalog,
        placer: Placer,
        clock: Clock,
        *,
        deployment: bytes,
        root: Callable[[], RootKeys],
        leaving: Callable[[], Collection[bytes]] = frozenset,
        limits: SnapshotLimits | None = None,
    ) -> None:
        self._catalog = catalog
        self._placer = placer
        self._clock = clock
        self._deployment = deployment
        self._root = root
        self._leaving = leaving
        self._limits = limits or SnapshotLimits()
        self.interval = self._limits.every
        self._chains = ChainWriter(catalog, placer, clock, deployment)
        self.writer = self._chains.shards
        self._retention = Retention(self.writer, clock, self._limits.retention / 2)
        self._quiet = Quiet(catalog, self.writer, clock, self._limits.every)
        self._consumer = FeedConsumer(catalog, CONSUMER)
        self._compared: frozenset[bytes] = frozenset()  # nodes on which nothing is newer than this catalog
        self._without: frozenset[bytes] = frozenset()  # leaving nodes that the newest chain has nothing on
        self._due = _AT_ONCE  # when the active chain's next point is, on the monotonic clock
        self._behind = False  # the feed was trimmed before the active chain had it
        self._not_before = _AT_ONCE  # when the next chain may be begun, after one that failed
        self._pause = _FIRST_PAUSE
        self._forced = False  # what waits for quiet is to be done now
        #: How fresh the newest point is, as of the last turn.
        self.freshness = Freshness()

    def hasten(self) -> None:
        """Make a point now, whenever the last one was."""
        self._due = _AT_ONCE

    def force(self) -> None:
        """Make a point now, and do what else is done in a quiet deployment."""
        self.hasten()
        self._forced = True

    async def turn(self) -> WorkerState:
        forced = self._forced
        root, state = self._root(), await self._state()
        await self._chains.require_in_force(root)
        up = self._chains.up()
        if self._retention.foreign or not self._compared.issuperset(up):
            state = await self._compare(state, root)
            self._compared |= up
        reason = self._why_new_base(state, root)
        if reason and state.building is None and self._clock.monotonic() >= self._not_before:
            state = await self._begin(state, root, reason)
        elif state.building is not None and state.building.root_key_id != root.id:
            state = await self._drop(state, "the root key was rotated")
        if state.active is not None and state.active.root_key_id == root.id and self._clock.monotonic() >= self._due:
            state = await self._keep_up(state, root)
        quiet, hold = self._quiet.watch(state.active) or forced, await held(self._catalog) is not None
        busy = state.building is not None
        if state.building is not None:
            state = await self._build(state, state.building, root)
        elif not quiet:
            self._quiet.forget()
        elif state.active is not None and not reason and not hold:
            busy = await self._quiet.judge(state.active, forced=forced)
        changed = await self._retention.turn(state, root.keys, held=hold, quiet=quiet)
        if changed is not state:
            await self._save(changed)
        self.freshness = await Freshness.look(self._catalog, self._clock)
        if forced and not busy:
            self._forced = False
        return WorkerState.BUSY if busy else WorkerState.IDLE

    async def standby(self) -> WorkerState:
        """Another process makes the snapshots; how fresh they are is told here too."""
        self.freshness = await Freshness.look(self._catalog, self._clock)
        return WorkerState.IDLE

    def report(self) -> WorkerReport:
        counters = {"points": self._chains.points, "parts": self._chains.parts, "bytes": self._chains.bytes}
        return WorkerReport(progress=self.freshness.text(), counters=counters)

    # -- the chains' state

    async def _state(self) -> StateRow:
        return await self._catalog.read(read_state)

    async def _compare(self, state: StateRow, root: RootKeys) -> StateRow:
        """Make sure that a restore would take what this catalog says."""
        found = await survey(self._chains.sources(), root.keys, self._deployment)
        changed = outrank(state, found, await self._catalog.sequence(), self._clock.now_us())
        if changed is not state:
            fields = {"lineage": changed.lineage}
            log.warning("the nodes hold snapshots of a later or another catalog", extra={"fields": fields})
            state = await self._save(changed)
        self._retention.foreign = False
        return state

    async def _save(self, state: StateRow) -> StateRow:
        """Put the row, and let the feed be trimmed up to where no chain needs it."""
        encoded = STATE_ROW.encode(state)
        positions = [chain.position for chain in (state.active, state.building) if chain is not None]

        async def put(txn: Transaction) -> None:
            txn.put(STATE_KEY, encoded)
            if positions:
                self._consumer.move(txn, min(positions))

        await self._catalog.transact(put)
        return state

    def _why_new_base(self, state: StateRow, root: RootKeys) -> str:
        """Why a chain is to be begun; "" where none is."""
        chain = state.active
        if chain is None:
            return "there is no snapshot yet"
        if chain.root_key_id != root.id:
            return "the root key was rotated"
        if self._behind:
            return "the change feed was trimmed"
        if self._retention.thin:
            return "the last one lost shards"
        if not self._without.issuperset(self._leaving()):
            return "a node is to go"
        if chain.change_bytes > max(_GROWTH_BYTES, _GROWTH * chain.base_bytes):
            return "changes outgrew the base"
        if chain.changes > max(_GROWTH_PARTS, chain.base_bytes // _BYTES_A_PART):
            return "there are many parts of changes"
        age = (self._clock.now_us() - chain.began_us) / 1e6
        if age < 0:
            return "the clock was set back"
        if age > (self._limits.retention / 2 if chain.changed else _LONGEST_AGE):
            return "the last one is old"
        if self._quiet.is_bulky(chain):
            return "its rows take much less by now"
        return ""

    async def _begin(self, state: StateRow, root: RootKeys, reason: str) -> StateRow:
        now = self._clock.now_us()
        number = max(state.last_chain + 1, now // 1000)
        log.info("a new snapshot is begun", extra={"fields": {"chain": number, "reason": reason}})
        chain = ChainRow(
            id=number,
            root_key_id=root.id,
            prefix=root.keys.prefix,
            position=await self._catalog.sequence(),
            began_us=now,
            last=first_link(self._deployment, number),
        )
        self._behind = self._retention.thin = False
        self._quiet.forget()
        self._without = frozenset(self._leaving())
        return await self._save(replace(state, last_chain=number, building=chain))

    async def _give_up(self, state: StateRow, reason: str) -> StateRow:
        """Drop the chain that is being built, and wait a while before the next."""
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._not_before = self._clock.monotonic() + self._pause
        return await self._drop(state, reason)

    async def _drop(self, state: StateRow, reason: str) -> StateRow:
        """End the chain that is being built; its shards are deleted in time."""
        chain = state.building
        assert chain is not None
        log.warning("a snapshot was given up", extra={"fields": {"chain": chain.id, "reason": reason}})
        retired = (*state.retired, chain.retired(self._clock.now_us()))
        return await self._save(replace(state, building=None, retired=retired))

    # -- writing

    async def _keep_up(self, state: StateRow, root: RootKeys) -> StateRow:
        """Bring the active chain to a point."""
        assert state.active is not None
        try:
            chain = await self._chains.to_a_point(state.lineage, state.active, root)
            if chain is not state.active:
                state = await self._save(replace(state, active=chain))
        except FeedTrimmed:
            log.warning("the change feed was trimmed before a snapshot held it: a new base is due")
            self._behind = True
        # Timers may fire a little early: a turn that comes just before its time is not to wait for the next one.
        self._due = self._clock.monotonic() + 0.9 * self._limits.every
        return state

    async def _build(self, state: StateRow, chain: ChainRow, root: RootKeys) -> StateRow:
        """One step of the next chain: its base, its first point, its verification, the change-over. While it is
        verified it is kept up with the changes, so that it takes over with a point as new as the active chain's."""
        lineage = state.lineage
        try:
            if not chain.based:
                chain = await self._chains.base(lineage, chain, root)
            elif not chain.time_us:
                chain = await self._chains.first_point(lineage, chain, root)
            elif chain.verified < chain.to_verify:
                chain = await self._chains.read_back(chain, root)
                chain = await self._chains.to_a_point(lineage, chain, root)
            else:
                return await self._change_over(state, await self._chains.to_a_point(lineage, chain, root))
        except FeedTrimmed:
            return await self._give_up(state, "the change feed was trimmed meanwhile")
        except NotWhole as error:
            return await self._give_up(state, str(error))
        return await self._save(replace(state, building=chain))

    async def _change_over(self, state: StateRow, chain: ChainRow) -> StateRow:
        """The chain takes the place of the active one."""
        retired = list(state.retired)
        self._pause = _FIRST_PAUSE
        if state.active is not None:
            retired.append(state.active.retired(self._clock.now_us()))
        log.info("a new snapshot is whole", extra={"fields": {"chain": chain.id, "bytes": chain.base_bytes}})
        state = await self._save(replace(state, active=chain, building=None, retired=tuple(retired)))
        reach("snapshot-changed-over")
        return state


async def state_of(catalog: Catalog) -> StateRow:
    """The state row, for status."""

    async def get(reader: Reader) -> StateRow:
        return await read_state(reader)

    return await catalog.read(get)
