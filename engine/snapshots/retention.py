"""Former chains go when their time has come; chains that lost shards, and chains of others, are noticed."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import Final

from msgspec.structs import replace

from core.clock import Clock
from core.crashpoints import reach
from core.ids import SNAPSHOT_NAMES, prefix_of_snapshot
from engine.snapshots.keys import SnapshotKeys
from engine.snapshots.rows import RetiredRow, StateRow
from engine.snapshots.writing import ShardWriter

log = logging.getLogger("atoll.snapshots")

#: Seconds between two looks at all names.
_LOOK: Final = 300.0
_FIRST_LOOK: Final = 30.0
#: Chains that nobody knows which one look enters: a node may list any number of names.
_STRANGERS: Final = 100
#: Former chains may take so many bytes together, or as many as the one in use; the last one is kept in any case.
_FORMER_BYTES: Final = 256 << 20
#: In a quiet deployment they may take so many, or so many times what the one in use takes, without exception. A chain
#: that is worth a new base (see quiet.py) takes more than that, so that the base does make room.
_QUIET_BYTES: Final = 1 << 20
_QUIET_SHARE: Final = 1.25

#: Part → (attempt, k) → indexes.
Shards = defaultdict[int, defaultdict[tuple[int, int], set[int]]]


class Retention:
    """`seconds`: how long a chain is kept at the most after another took its place."""

    def __init__(self, writer: ShardWriter, clock: Clock, seconds: float) -> None:
        self._writer = writer
        self._clock = clock
        self._seconds = seconds
        self._next = clock.monotonic() + min(_FIRST_LOOK, seconds)
        self._suspect: set[int] = set()  # chains that lacked shards at the last look
        self._looked = self._whole = 0  # the active chain at the last look; and if it lacked nothing
        #: The active chain lacked shards at two looks: a new base is due.
        self.thin = False
        #: There are names of a chain that this catalog has not come to yet: somebody else has.
        self.foreign = False

    async def turn(self, state: StateRow, keys: SnapshotKeys, *, held: bool, quiet: bool = False) -> StateRow:
        """Delete what is due, unless the catalog is `held`: then an operator may want to go back further. What takes
        too much room in a `quiet` deployment goes once all shards of the active chain were counted. The state
        afterwards; the same object where nothing changed."""
        now = self._clock.monotonic()
        active = state.active.id if state.active is not None else 0
        uncounted = quiet and self._looked != active and bool(_beyond_budget(state, quiet=True))
        if now >= self._next or uncounted:
            self._next = now + min(_LOOK, max(self._seconds, 1.0))
            state = await self._look(state, keys)
        if held:
            return state
        today = self._clock.now_us()
        if any(row.since_us > today for row in state.retired):  # the clock was set back
            state = replace(
                state, retired=tuple(replace(row, since_us=min(row.since_us, today)) for row in state.retired)
            )
        limit = today - int(self._seconds * 1e6)
        beyond = _beyond_budget(state, quiet=quiet and self._whole == active)
        for row in state.retired:
            if (row.since_us <= limit or row in beyond) and await self._delete(row, state, keys):
                state = replace(state, retired=tuple(other for other in state.retired if other is not row))
                reach("snapshot-retired")
        return state

    async def _look(self, state: StateRow, keys: SnapshotKeys) -> StateRow:
        """Enter chains that nobody knows as retired, and count the active one's shards."""
        names, _ = await self._writer.names(SNAPSHOT_NAMES)
        chains = [chain for chain in (state.active, state.building) if chain is not None]
        known = {(row.prefix, row.chain) for row in state.retired} | {(chain.prefix, chain.id) for chain in chains}
        prefixes = {prefix for prefix, _ in known}
        strangers: set[tuple[str, int]] = set()
        active = state.active.id if state.active is not None and state.active.prefix == keys.prefix else 0
        shards: Shards = defaultdict(lambda: defaultdict(set))
        for on_node in names.values():
            for text in on_node:
                name = keys.read_name(text)
                if name is None:
                    prefix = prefix_of_snapshot(text)
                    if prefix != keys.prefix and prefix not in prefixes:
                        strangers.add((prefix, 0))
                elif name.chain > state.last_chain:
                    self.foreign = True
                elif name.chain == active:
                    shards[name.part][name.attempt, name.k].add(name.index)
                elif (keys.prefix, name.chain) not in known:
                    strangers.add((keys.prefix, name.chain))
        now = self._clock.now_us()
        if strangers:
            rows = tuple(RetiredRow(prefix, chain, now) for prefix, chain in sorted(strangers)[:_STRANGERS])
            state = replace(state, retired=(*state.retired, *rows))
        self._looked, self._whole = state.active.id if state.active is not None else 0, 0
        if state.active is not None and active:
            self._count(active, state.active.parts, shards)
        return state

    def _count(self, chain: int, parts: int, found: Shards) -> None:
        """Every part should have one attempt with all its shards."""
        spare = self._writer.spare
        lacking = any(
            not any(len(indexes) == k + spare for (_, k), indexes in found[part].items()) for part in range(parts)
        )
        self.thin = lacking and chain in self._suspect
        self._suspect = {chain} if lacking else set()
        self._whole = 0 if lacking else chain
        if self.thin:
            log.warning("a snapshot lost shards: it is written anew")

    async def _delete(self, row: RetiredRow, state: StateRow, keys: SnapshotKeys) -> bool:
        """Whether all of it is gone."""
        current = row.prefix == keys.prefix
        if not current and any(
            chain is not None and chain.prefix == row.prefix for chain in (state.active, state.building)
        ):
            return False  # names under another root key can't be told apart: none goes before all may
        names, all_heard = await self._writer.names(row.prefix)
        doomed: list[tuple[bytes, str]] = []
        for node_id, on_node in names.items():
            for text in on_node:
                name = keys.read_name(text) if current else None
                if not current or (name is not None and name.chain == row.chain):
                    doomed.append((node_id, text))
        gone = await self._writer.delete(doomed)
        return gone and all_heard


def _beyond_budget(state: StateRow, *, quiet: bool) -> list[RetiredRow]:
    """Former chains that would take more room than they may, the newest ones first served."""
    if state.active is None:
        return []
    taken_now = state.active.base_bytes + state.active.change_bytes
    budget = max(_QUIET_BYTES, _QUIET_SHARE * taken_now) if quiet else max(_FORMER_BYTES, taken_now)
    found: list[RetiredRow] = []
    taken = 0
    for row in sorted(state.retired, key=lambda row: row.since_us, reverse=True):
        if row.size and taken + row.size > budget and (taken or quiet):
            found.append(row)
        else:
            taken += row.size
    return found
