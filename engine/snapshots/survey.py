"""What snapshots there are on nodes, and which point can be trusted: for restores and for verification.

Names say which chain, part and attempt a shard is of; headers, each under a seal of the root key, say what the part is
bound to. From both the chains are put together without reading the parts: a hole, a forged or a moved shard ends a
chain before it, and the newest point that is whole is taken.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from backends.errors import BackendError
from backends.interface import Entry
from core.buffers import Buffer
from core.ids import SNAPSHOT_NAMES, is_snapshot_name
from engine.snapshots.keys import ShardName, SnapshotKeys
from engine.snapshots.parts import (
    HEADER_LENGTH,
    Content,
    Facts,
    Header,
    SnapshotDamaged,
    first_link,
    is_sound,
    join,
    open_part,
    read_header,
    shard_length,
)
from engine.snapshots.writing import PATIENCE, listed

_SIDE_BY_SIDE: Final = 16
_BATCH: Final = 1024  # headers under way at once; a node may list any number of names


class Shelf(Protocol):
    """What is needed of a node: a `Backend` is one."""

    def list(self, prefix: str = "") -> AsyncIterator[Entry]: ...

    async def get(self, locator: bytes, offset: int, length: int) -> Buffer: ...


@dataclass(frozen=True, slots=True)
class Source:
    """A node to read from. `name` is for messages."""

    name: str
    shelf: Shelf


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard whose header is sound."""

    source: Source
    piece: str
    index: int
    header: Header


@dataclass(slots=True)
class Attempt:
    """One writing of one part. `shards` by index, one or more of each."""

    name: ShardName  # of any of its shards
    header: Header
    shards: dict[int, list[Shard]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return len(self.shards) >= self.name.k

    @property
    def full(self) -> bool:
        return len(self.shards) >= self.name.k + self.header.m


@dataclass(frozen=True, slots=True)
class Step:
    """A part in its place: all before it are whole and lead to it."""

    attempt: Attempt
    before: Step | None

    @property
    def facts(self) -> Facts:
        return self.attempt.header.facts

    def path(self) -> list[Attempt]:
        """From the chain's first part to this one."""
        found: list[Attempt] = []
        step: Step | None = self
        while step is not None:
            found.append(step.attempt)
            step = step.before
        return found[::-1]


@dataclass(slots=True)
class Survey:
    """What was found. `silent`: nodes that did not answer, and why. `findings`: what is wrong, a sentence each.
    `strangers`: snapshots' names under other root keys. `best` is the newest whole point, `newest` the newest that
    any sound shard tells of; both of those up to `latest_us` only."""

    latest_us: float = float("inf")
    heard: int = 0
    silent: dict[str, str] = field(default_factory=dict)
    strangers: int = 0
    findings: list[str] = field(default_factory=list)
    attempts: dict[int, dict[int, dict[int, Attempt]]] = field(default_factory=dict)  # chain → part → attempt
    best: Step | None = None
    newest: Facts | None = None


async def survey(
    sources: Sequence[Source],
    keys: SnapshotKeys,
    deployment: bytes,
    *,
    only_chain: int | None = None,
    refused: frozenset[tuple[str, str]] = frozenset(),
    latest_us: float = float("inf"),
) -> Survey:
    """Look at all nodes. `refused`: (source, piece) whose bytes were found to be bad. Raises FutureVersion."""
    found = Survey(latest_us)
    prefix = keys.prefix if only_chain is not None else SNAPSHOT_NAMES
    entries = await asyncio.gather(*(_entries(source, prefix) for source in sources))
    looks: list[tuple[Source, Entry, ShardName]] = []
    for source, answer in zip(sources, entries, strict=True):
        if isinstance(answer, str):
            found.silent[source.name] = answer
            continue
        found.heard += 1
        for entry in answer:
            name = keys.read_name(entry.name)
            if name is None:
                found.strangers += is_snapshot_name(entry.name)
            elif (source.name, entry.name) not in refused and only_chain in (None, name.chain):
                looks.append((source, entry, name))
    gate = asyncio.Semaphore(_SIDE_BY_SIDE)
    for start in range(0, len(looks), _BATCH):
        batch = looks[start : start + _BATCH]
        for look in await asyncio.gather(*(_look(gate, keys, deployment, *each) for each in batch)):
            if isinstance(look, str):
                found.findings.append(look)
            elif look is not None:
                _enter(found, *look)
    _resolve(found, deployment)
    return found


async def _entries(source: Source, prefix: str) -> list[Entry] | str:
    """Entries of snapshots, or why there are none."""
    try:
        return [entry for entry in await listed(source.shelf.list(prefix)) if is_snapshot_name(entry.name)]
    except (BackendError, OSError, TimeoutError) as error:
        return str(error) or type(error).__name__


async def _look(
    gate: asyncio.Semaphore, keys: SnapshotKeys, deployment: bytes, source: Source, entry: Entry, name: ShardName
) -> tuple[ShardName, Shard] | str | None:
    """A shard by its header, or what is wrong with it. None for one that is gone by now."""
    where = f"node {source.name}, piece {entry.name}"
    try:
        async with gate, asyncio.timeout(PATIENCE):
            head = await source.shelf.get(entry.name.encode(), 0, HEADER_LENGTH)
        header = read_header(keys, deployment, name, head)
    except SnapshotDamaged as error:
        return f"{where}: {error}"
    except (BackendError, OSError, TimeoutError) as error:
        return f"{where} can't be read: {error}"
    if entry.size != HEADER_LENGTH + shard_length(header, name.k):
        return f"{where} is cut short or has grown"
    return name, Shard(source, entry.name, name.index, header)


def _enter(found: Survey, name: ShardName, shard: Shard) -> None:
    attempts = found.attempts.setdefault(name.chain, {}).setdefault(name.part, {})
    attempt = attempts.setdefault(name.attempt, Attempt(name, shard.header))
    attempt.shards.setdefault(shard.index, []).append(shard)
    facts = shard.header.facts
    if _counts(found, facts) and (found.newest is None or facts.order > found.newest.order):
        found.newest = facts


def _counts(found: Survey, facts: Facts) -> bool:
    return facts.point and facts.time_us <= found.latest_us


def _resolve(found: Survey, deployment: bytes) -> None:
    """Follow every chain as far as it is whole, and pick the newest point."""
    for chain in sorted(found.attempts):
        parts = found.attempts[chain]
        steps: dict[bytes, Step | None] = {first_link(deployment, chain): None}
        number = 0
        while number in parts:
            following: dict[bytes, Step | None] = {}
            for attempt in parts[number].values():
                if attempt.whole and attempt.header.previous in steps:
                    step = Step(attempt, steps[attempt.header.previous])
                    following[attempt.header.part_hash] = step
                    if _counts(found, step.facts):
                        found.best = max(found.best or step, step, key=lambda each: each.facts.order)
            if not following:
                break
            steps, number = following, number + 1
        if number <= max(parts):
            found.findings.append(_gap(chain, number, parts))


def _gap(chain: int, number: int, parts: dict[int, dict[int, Attempt]]) -> str:
    """Why a chain ends before its last part."""
    attempts = list(parts.get(number, {}).values())
    if not attempts:
        why = "is missing on all nodes that answered"
    elif not any(attempt.whole for attempt in attempts):
        best = max(attempts, key=lambda attempt: len(attempt.shards) - attempt.name.k)
        why = f"has {len(best.shards)} sound shards and needs {best.name.k}"
    else:
        why = "does not follow the part before it"
    return f"chain {chain} has a hole: part {number} of {max(parts) + 1} {why}"


class PartUnreadable(SnapshotDamaged):
    """Too few sound shards of a part. `refused` are those that were found bad: survey again without them."""

    def __init__(self, message: str, refused: frozenset[tuple[str, str]]) -> None:
        super().__init__(message)
        self.refused = refused


async def fetch(
    keys: SnapshotKeys, deployment: bytes, attempt: Attempt, bad: list[str], *, every: bool = False
) -> Content:
    """The content of a part, of as many shards as it needs, or of `every` one. What is wrong with shards on the way is
    told in `bad`. Raises PartUnreadable."""
    name, header = attempt.name, attempt.header
    good: dict[int, Buffer] = {}
    refused: set[tuple[str, str]] = set()
    queue = _in_order(attempt)
    while every or len(good) < name.k:
        shard = next(queue, None)
        if shard is None and len(good) >= name.k:
            break
        if shard is None:
            message = f"part {name.part} of chain {name.chain} has {len(good)} sound shards and needs {name.k}"
            raise PartUnreadable(message, frozenset(refused))
        if shard.index in good:
            continue
        length = shard_length(header, name.k)
        try:
            async with asyncio.timeout(PATIENCE):
                data = await shard.source.shelf.get(shard.piece.encode(), HEADER_LENGTH, length)
        except (BackendError, OSError, TimeoutError) as error:
            bad.append(f"node {shard.source.name}, piece {shard.piece} can't be read: {error}")
            refused.add((shard.source.name, shard.piece))
            continue
        if is_sound(shard.header, name.k, data):
            good[shard.index] = data
        else:
            bad.append(f"node {shard.source.name}, piece {shard.piece} is damaged or forged")
            refused.add((shard.source.name, shard.piece))
    try:
        return await asyncio.to_thread(lambda: open_part(keys, deployment, join(name, header, good)))
    except SnapshotDamaged as error:
        used = {(shard.source.name, shard.piece) for each in attempt.shards.values() for shard in each}
        raise PartUnreadable(str(error), frozenset(used | refused)) from None


def _in_order(attempt: Attempt) -> Iterator[Shard]:
    """Data shards first."""
    later: dict[int, list[Shard]] = defaultdict(list)
    for index in sorted(attempt.shards):
        first, *rest = attempt.shards[index]
        later[index] = rest
        yield first
    for rest in later.values():
        yield from rest
