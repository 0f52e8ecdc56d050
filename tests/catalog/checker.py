"""A small serializability checker: random transactions over few keys, judged by the graph of what saw what.

Every write is unique, so each read names the transaction that it saw. With the order of each key's versions, which
increments make known (a write is put only by a transaction that read the key), the edges wr, ww and rw of Adya's
serialization graph follow exactly; a cycle is a violation. Where begin and end of transactions are known, so that one
which ended before another began must come before it, the check is for strict serializability: it finds stale reads.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from math import inf

from catalog.interface import Catalog, Transaction
from catalog.prefixes import ENGINE

KEYS = [ENGINE + b"key%d" % i for i in range(6)]


@dataclass
class Observed:
    """One committed transaction: for each key the writer of the value that it saw, and what it wrote."""

    name: int
    seen: dict[bytes, int] = field(default_factory=dict)
    wrote: set[bytes] = field(default_factory=set)
    #: When it began and was acknowledged, on one clock; an end that is not known is infinite.
    began: float = 0
    ended: float = inf


async def check_serializable(catalog: Catalog, *, seed: int, clients: int, transactions: int) -> None:
    """Run `clients` × `transactions` random transactions at once and assert that some serial order explains them."""
    history: list[Observed] = []
    names = iter(range(1, clients * transactions + 1))

    async def client(rng: random.Random) -> None:
        for _ in range(transactions):
            try:
                history.append(await catalog.transact(_random_work(next(names), rng)))
            except LookupError:
                continue
            if rng.random() < 0.2:
                await asyncio.sleep(0)

    await asyncio.gather(*(client(random.Random(seed * 1000 + i)) for i in range(clients)))
    assert_serializable(history)


def _random_work(name: int, rng: random.Random) -> Callable[[Transaction], Awaitable[Observed]]:
    """A transaction that reads some keys one by one or by a scan, writes some of them, and at times fails."""
    reads = rng.sample(KEYS, rng.randrange(1, 4))
    writes = rng.sample(reads, rng.randrange(0, len(reads) + 1))
    ranged = rng.random() < 0.3
    fails = rng.random() < 0.1

    async def work(txn: Transaction) -> Observed:
        observed = Observed(name)
        if ranged:
            rows = dict(await txn.scan(KEYS[0], KEYS[-1] + b"\x00", limit=100))
            observed.seen = {key: int(rows.get(key, b"0")) for key in KEYS}
        for key in reads:
            observed.seen[key] = int(await txn.get(key) or b"0")
        for key in writes:
            txn.put(key, b"%d" % name)
            observed.wrote.add(key)
        if fails:
            raise LookupError
        return observed

    return work


def _add_time(graph: TopologicalSorter[int | tuple[str, int]], history: list[Observed]) -> None:
    """Edges from what ended to what began later, by way of a chain of the ends."""
    ends = sorted((observed.ended, observed.name) for observed in history if observed.ended < inf)
    for place, (_, name) in enumerate(ends):
        graph.add(("end", place), name, *([("end", place - 1)] if place else []))
    for observed in history:
        before = bisect_left(ends, (observed.began, 0))
        if before:
            graph.add(observed.name, ("end", before - 1))


def assert_serializable(history: list[Observed]) -> None:
    """Raises AssertionError when no serial order gives what was seen."""
    # The next version of a key is the one whose writer saw this one; two such writers would be a lost update.
    successor: dict[tuple[bytes, int], int] = {}
    for observed in history:
        for key in observed.wrote:
            place = (key, observed.seen[key])
            assert place not in successor, f"lost update of {key!r}: {successor[place]} and {observed.name}"
            successor[place] = observed.name
    graph: TopologicalSorter[int | tuple[str, int]] = TopologicalSorter()
    _add_time(graph, history)
    for observed in history:
        graph.add(observed.name)
        for key, writer in observed.seen.items():
            if writer:
                graph.add(observed.name, writer)  # write before its read (and before the write that follows it)
            following = successor.get((key, writer))
            if following is not None and following != observed.name:
                graph.add(following, observed.name)  # a read of the older version before the newer write
    committed = {observed.name for observed in history}
    for observed in history:
        assert set(observed.seen.values()) <= committed | {0}, "a read of something that never committed"
    try:
        graph.prepare()
    except CycleError as error:
        raise AssertionError(f"not serializable: cycle {error.args[1]}") from None
