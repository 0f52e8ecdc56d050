"""The worker that keeps the catalog's snapshots on the nodes fresh. Named `snapshots`; runs under a lease.

A turn brings the active chain up to date, or takes one step towards the next chain: a run of its base, a few parts read
back. The next chain takes over when all of it was read back; the former one is deleted when its time has come. What a
turn stores is durable on the nodes before the catalog says so: cut short anywhere, the next turn writes the same part
again under other names, and a restore follows the one that the chain goes on from. The first turn of a process looks
whether the nodes hold anything newer than the catalog is (see descent.py).
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
from core.workers import HandOver, WorkerReport, WorkerState
from engine.errors import EngineError
from engine.layout_data import ROOT
from engine.ports import Placer
from engine.records_data import ROOT_ROW
from engine.snapshots.capture import base_run, changes_since
from engine.snapshots.descent import outrank
from engine.snapshots.freshness import Freshness
from engine.snapshots.keys import SnapshotKeys
from engine.snapshots.parts import Content, Facts, SealedPart, first_link, seal_part
from engine.snapshots.retention import Retention
from engine.snapshots.rows import CONSUMER, STATE_KEY, STATE_ROW, ChainRow, StateRow, read_state
from engine.snapshots.survey import Attempt, Source, fetch, survey
from engine.snapshots.writing import ShardWriter

log = logging.getLogger("atoll.snapshots")

#: A new base is due once changes take this many times the base's bytes, but at least so many bytes.
_GROWTH: Final = 1.0
_GROWTH_BYTES: Final = 16 << 20
#: …or once there are so many parts of changes, or one for so many bytes of the base: their number bounds a restore too.
_GROWTH_PARTS: Final = 1000
_BYTES_A_PART: Final = 64 << 10
#: A base that nothing changed is written anew after so many seconds all the same: it may have rotted.
_LONGEST_AGE: Final = 7 * 86_400.0
#: Parts read back in one turn.
_READ_BACK: Final = 4
#: Seconds before a new chain is begun after one that could not be read back; doubled each time.
_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 600.0
_AT_ONCE: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class RootKeys:
    """The snapshot keys of the root key in force, and its public id."""

    id: str
    keys: SnapshotKeys


class FormerRootKey(EngineError, HandOver):
    """The root key was rotated by another process than this one, which can't make snapshots until it begins anew."""


@dataclass(frozen=True, slots=True)
class SnapshotLimits:
    """Seconds. `every`: between two points while there are changes. `retention`: what was deleted is out of all
    snapshots after that; half of it a chain may grow old, the other half it is kept when another took its place."""

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
        self.writer = ShardWriter(placer)
        self._retention = Retention(self.writer, clock, self._limits.retention / 2)
        self._consumer = FeedConsumer(catalog, CONSUMER)
        self._compared = False  # whether nothing on the nodes is newer than this catalog
        self._without: frozenset[bytes] = frozenset()  # leaving nodes that the newest chain has nothing on
        self._due = _AT_ONCE  # when the active chain's next point is, on the monotonic clock
        self._behind = False  # the feed was trimmed before the active chain had it
        self._not_before = _AT_ONCE  # when the next chain may be begun, after one that failed
        self._pause = _FIRST_PAUSE
        self._read: tuple[bytes, list[Attempt]] = (b"", [])  # the way to a chain's last part, by its hash
        #: How fresh the newest point is, as of the last turn.
        self.freshness = Freshness()
        self._points = self._parts = self._bytes = 0

    def force(self) -> None:
        """Make a point now, whenever the last one was."""
        self._due = _AT_ONCE

    async def turn(self) -> WorkerState:
        root, state = self._root(), await self._state()
        await self._require_in_force(root)
        if self._retention.foreign or not self._compared:
            state = await self._compare(state, root)
        reason = self._why_new_base(state, root)
        if reason and state.building is None and self._clock.monotonic() >= self._not_before:
            state = await self._begin(state, root, reason)
        elif state.building is not None and state.building.root_key_id != root.id:
            state = await self._drop(state, "the root key was rotated")
        if state.active is not None and state.active.root_key_id == root.id and self._clock.monotonic() >= self._due:
            state = await self._keep_up(state, root)
        busy = state.building is not None
        if state.building is not None:
            state = await self._build(state, state.building, root)
        else:
            changed = await self._retention.turn(state, root.keys, held=await held(self._catalog) is not None)
            if changed is not state:
                state = await self._save(changed)
        self.freshness = await Freshness.look(self._catalog, self._clock)
        return WorkerState.BUSY if busy else WorkerState.IDLE

    async def standby(self) -> WorkerState:
        """Another process makes the snapshots; how fresh they are is told here too."""
        self.freshness = await Freshness.look(self._catalog, self._clock)
        return WorkerState.IDLE

    def report(self) -> WorkerReport:
        counters = {"points": self._points, "parts": self._parts, "bytes": self._bytes}
        return WorkerReport(progress=self.freshness.text(), counters=counters)

    # -- the chains' state

    async def _state(self) -> StateRow:
        return await self._catalog.read(read_state)

    async def _require_in_force(self, root: RootKeys) -> None:
        """A chain holds what its own root key opens, and nothing of after a rotation. Raises FormerRootKey."""

        async def get(reader: Reader) -> bytes | None:
            return await reader.get(ROOT)

        data = await self._catalog.read(get)
        if data is not None and (in_force := ROOT_ROW.decode(data).key_id) != root.id:
            raise FormerRootKey(
                f"the root key {in_force} is in force, this process has {root.id}: start it again with the new one"
            )

    async def _compare(self, state: StateRow, root: RootKeys) -> StateRow:
        """Make sure that a restore would take what this catalog says."""
        found = await survey(self._sources(), root.keys, self._deployment)
        changed = outrank(state, found, await self._catalog.sequence(), self._clock.now_us())
        if changed is not state:
            fields = {"lineage": changed.lineage}
            log.warning("the nodes hold snapshots of a later or another catalog", extra={"fields": fields})
            state = await self._save(changed)
        self._compared, self._retention.foreign = True, False
        return state

    def _sources(self) -> list[Source]:
        return [Source(node.name, node.backend) for node in self._placer.nodes() if self._placer.is_up(node.id)]

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
            while True:
                chain, point = await self._extend(state.lineage, state.active, root, even_none=False)
                if chain is not state.active:
                    state = await self._save(replace(state, active=chain))
                if point:
                    break
        except FeedTrimmed:
            log.warning("the change feed was trimmed before a snapshot held it: a new base is due")
            self._behind = True
        # Timers may fire a little early: a turn that comes just before its time is not to wait for the next one.
        self._due = self._clock.monotonic() + 0.9 * self._limits.every
        return state

    async def _extend(self, lineage: int, chain: ChainRow, root: RootKeys, *, even_none: bool) -> tuple[ChainRow, bool]:
        """Write what changed since the chain's last part, as far as one view goes; the chain then, and whether it ends
        in a point. Raises FeedTrimmed, Unavailable, StorageFull."""
        now = self._clock.now_us()
        changes = await changes_since(self._catalog, chain.position, even_none=even_none)
        for number, content in enumerate(changes.contents, 1):
            last = changes.point and number == len(changes.contents)
            facts = Facts(last, lineage, changes.position if last else chain.position, now)
            chain, size = await self._write(chain, facts, content, root)
            chain = replace(
                chain,
                changes=chain.changes + 1,
                change_bytes=chain.change_bytes + size,
                changed=chain.changed or bool(content.puts or content.deletes),
            )
            if last:
                chain = replace(chain, sequence=facts.sequence, time_us=now)
                self._points += 1
        if changes.contents or not changes.point:
            chain = replace(chain, position=changes.position)
            reach("snapshot-changes")
        return chain, changes.point

    async def _write(self, chain: ChainRow, facts: Facts, content: Content, root: RootKeys) -> tuple[ChainRow, int]:
        await self._require_in_force(root)  # after the content was read
        part: SealedPart = seal_part(root.keys, self._deployment, chain.id, chain.parts, facts, chain.last, content)
        size = await self.writer.write(root.keys, self._deployment, part)
        self._parts += 1
        self._bytes += size
        return replace(chain, parts=chain.parts + 1, last=part.hash), size

    async def _build(self, state: StateRow, chain: ChainRow, root: RootKeys) -> StateRow:
        """One step of the next chain: its base, its first point, its verification, the change-over."""
        try:
            if not chain.based:
                content, cursor, ended = await base_run(self._catalog, chain.cursor)
                facts = Facts(False, state.lineage, chain.position, self._clock.now_us())
                chain, size = await self._write(chain, facts, content, root)
                chain = replace(chain, cursor=cursor, based=ended, base_bytes=chain.base_bytes + size)
                reach("snapshot-base")
            elif not chain.time_us:
                chain, _ = await self._extend(state.lineage, chain, root, even_none=True)
            elif chain.verified < chain.parts:
                chain = await self._read_back(chain, root)
            else:
                return await self._change_over(state, chain)
        except FeedTrimmed:
            return await self._give_up(state, "the change feed was trimmed meanwhile")
        except _NotWhole as error:
            return await self._give_up(state, str(error))
        return await self._save(replace(state, building=chain))

    async def _read_back(self, chain: ChainRow, root: RootKeys) -> ChainRow:
        """Some parts, as a restore would read them. Raises _NotWhole."""
        if self._read[0] != chain.last:
            found = await survey(self._sources(), root.keys, self._deployment, only_chain=chain.id)
            if found.best is None or found.best.attempt.header.part_hash != chain.last:
                raise _NotWhole("; ".join(found.findings) or "its newest point is not found")
            self._read = (chain.last, found.best.path())
        end = min(chain.verified + _READ_BACK, chain.parts)
        for attempt in self._read[1][chain.verified : end]:
            bad: list[str] = []
            try:
                await fetch(root.keys, self._deployment, attempt, bad)
            except EngineError as error:
                raise _NotWhole(str(error)) from None
            if bad or not attempt.full:
                raise _NotWhole("; ".join(bad) or f"part {attempt.name.part} lacks shards")
        reach("snapshot-verified")
        return replace(chain, verified=end)

    async def _change_over(self, state: StateRow, chain: ChainRow) -> StateRow:
        """The chain takes the place of the active one."""
        retired = list(state.retired)
        self._read, self._pause = (b"", []), _FIRST_PAUSE
        self._due = _AT_ONCE  # its newest point is older than the former chain's
        if state.active is not None:
            retired.append(state.active.retired(self._clock.now_us()))
        log.info("a new snapshot is whole", extra={"fields": {"chain": chain.id, "bytes": chain.base_bytes}})
        state = await self._save(replace(state, active=chain, building=None, retired=tuple(retired)))
        reach("snapshot-changed-over")
        return state


class _NotWhole(Exception):
    """A chain that was written can't be read back."""


async def state_of(catalog: Catalog) -> StateRow:
    """The state row, for status."""

    async def get(reader: Reader) -> StateRow:
        return await read_state(reader)

    return await catalog.read(get)
