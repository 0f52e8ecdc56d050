"""Many gateways on one PostgreSQL: linearizable through restarts, hardly ever colliding, holding up nobody."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from catalog.errors import CatalogUnavailable, CommitUnknown
from catalog.interface import Reader, Transaction
from catalog.keys import u64
from catalog.postgres_engine.catalog import PostgresCatalog
from catalog.prefixes import ENGINE
from tests.harness.linearizability import NEVER, Applied, Operation, State, check
from tests.harness.postgres_server import PostgresServer


@pytest.fixture(scope="module")
def durable() -> Iterator[PostgresServer]:
    """A server that may be crashed."""
    server = PostgresServer(durable=True)
    try:
        server.start()
        yield server
    finally:
        server.close()


async def test_histories_are_linearizable_while_the_server_restarts(durable: PostgresServer, rounds: int) -> None:
    name = await durable.new_database()
    history: dict[bytes, list[Operation]] = {ENGINE + b"key%d" % i: [] for i in range(4)}
    restarts = 3 * rounds
    async with AsyncExitStack() as stack:
        gateways = []
        for _ in range(3):
            gateway = await PostgresCatalog.open(durable.url(name), patience=10)
            stack.push_async_callback(gateway.close)
            gateways.append(gateway)
        over = asyncio.Event()
        clients = [asyncio.create_task(_client(gateways[i % 3], random.Random(i), i, history, over)) for i in range(9)]

        def cut() -> int:
            return sum(gateway.commit_counters.resolved for gateway in gateways)

        turn = 0
        while turn < restarts or not cut():
            assert turn < 10 * restarts, "no commit was cut"
            await _grown(history, 8 * (turn + 1))
            await asyncio.to_thread(durable.stop, crash=turn % 2 == 0)
            await asyncio.sleep(0.1)
            await asyncio.to_thread(durable.start)
            turn += 1
        await _grown(history, 8 * (turn + 1))
        over.set()
        await asyncio.gather(*clients)
    for key, operations in history.items():
        assert check(operations, 0) is None, f"{key!r}: {check(operations, 0)}"


async def _grown(history: dict[bytes, list[Operation]], count: int) -> None:
    """Until so many operations on each key have ended."""
    while min(map(len, history.values())) < count:  # noqa: ASYNC110 - clients are watched, not asked
        await asyncio.sleep(0.02)


async def _client(
    gateway: PostgresCatalog,
    rng: random.Random,
    number: int,
    history: dict[bytes, list[Operation]],
    over: asyncio.Event,
) -> None:
    """Reads, writes and conditional writes of unique values, each noted as it was answered."""
    turn = 0
    while not over.is_set():
        turn += 1
        key = rng.choice(list(history))
        kind = rng.randrange(3)
        new = number * 1_000_000 + turn
        start = time.monotonic()
        if kind == 0:
            value = await gateway.read(lambda reader, key=key: _value(reader, key))  # type: ignore[misc]
            operation = Operation(f"read {value}", start, _reads(value), time.monotonic())
        else:

            async def write(txn: Transaction, key: bytes = key, kind: int = kind, new: int = new) -> int:
                found = await _value(txn, key)
                if kind == 1 or found % 2 == 0:
                    txn.put(key, b"%d" % new)
                return found

            try:
                found = await gateway.transact(write)
                written = kind == 1 or found % 2 == 0
                step = _exchanges(found, new) if written else _reads(found)
                operation = Operation(f"write {new} over {found}", start, step, time.monotonic())
            except CommitUnknown:
                operation = Operation(f"perhaps {new}", start, _sets(new, kind), NEVER, optional=True)
            except CatalogUnavailable:
                continue
        history[key].append(operation)
        await asyncio.sleep(rng.uniform(0.005, 0.02))


async def _value(reader: Reader, key: bytes) -> int:
    return int(await reader.get(key) or b"0")


def _reads(value: int):  # type: ignore[no-untyped-def]
    return lambda state: Applied(state) if state == value else None


def _exchanges(old: int, new: int):  # type: ignore[no-untyped-def]
    return lambda state: Applied(new) if state == old else None


def _sets(new: int, kind: int):  # type: ignore[no-untyped-def]
    def step(state: State) -> Applied:
        assert isinstance(state, int)
        return Applied(new if kind == 1 or state % 2 == 0 else state)

    return step


@pytest.fixture
async def three(postgres_url: str) -> AsyncIterator[list[PostgresCatalog]]:
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(3):
            catalog = await PostgresCatalog.open(postgres_url)
            stack.push_async_callback(catalog.close)
            opened.append(catalog)
        yield opened


async def test_writers_on_one_hot_prefix_hardly_ever_collide(three: list[PostgresCatalog], rounds: int) -> None:
    """64 writers over three gateways, on an empty table, where all rows share pages: what an object's commit does."""
    guard = ENGINE + b"a guard that every commit reads"

    async def install(txn: Transaction) -> None:
        txn.put(guard, b"open")

    await three[0].transact(install)

    async def write(txn: Transaction, name: bytes) -> None:
        assert await txn.get(guard) == b"open"
        head = ENGINE + b"head" + name[::-1]
        await txn.get(head)
        txn.put(head, name * 10)
        txn.put(ENGINE + b"list/hot/" + name, name)
        txn.put(ENGINE + b"body" + name[::-1], b"")

    async def writer(number: int) -> None:
        for turn in range(30 * rounds):
            name = u64(turn * 64 + number)
            await three[number % 3].transact(lambda txn, name=name: write(txn, name))  # type: ignore[misc]

    await asyncio.gather(*(writer(number) for number in range(64)))
    counters = [catalog.commit_counters for catalog in three]
    transactions = sum(one.transactions for one in counters)
    aborts = sum(one.collisions + one.stale for one in counters)
    assert transactions >= 64 * 30 * rounds
    assert aborts <= transactions / 100, f"{aborts} of {transactions} ran again"
    assert sum(one.statements for one in counters) < transactions, "none shared a commit"


async def test_a_gateway_that_stops_in_a_transaction_holds_up_nobody(
    three: list[PostgresCatalog], postgres_url: str
) -> None:
    """No transaction of the database is open while a function runs, so nothing is locked and nothing bloats."""
    key = ENGINE + b"key"
    stopped, go_on = asyncio.Event(), asyncio.Event()
    runs = 0

    async def slow(txn: Transaction) -> bytes | None:
        nonlocal runs
        runs += 1
        found = await txn.get(key)
        stopped.set()
        await go_on.wait()
        txn.put(key, (found or b"") + b"slow")
        return found

    paused = asyncio.create_task(three[0].transact(slow))
    await stopped.wait()
    connection = await asyncpg.connect(postgres_url)
    try:
        open_ones = "SELECT count(*) FROM pg_stat_activity WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid()"
        assert await connection.fetchval(open_ones + " AND datname = current_database() AND state <> 'active'") == 0
    finally:
        await connection.close()

    async def quick(txn: Transaction) -> None:
        txn.put(key, b"quick")

    await asyncio.wait_for(three[1].transact(quick), 5)
    go_on.set()
    assert await paused == b"quick", "it ran again on what was written meanwhile"
    assert runs == 2
    assert await three[2].read(lambda reader: reader.get(key)) == b"quickslow"


async def test_transactions_cancelled_anywhere_are_whole_or_absent(three: list[PostgresCatalog]) -> None:
    rng = random.Random(4)
    answered: set[int] = set()

    async def work(txn: Transaction, number: int) -> None:
        for part in range(3):
            await txn.get(ENGINE + u64(rng.randrange(40)) + bytes((part,)))
        for part in range(3):
            txn.put(ENGINE + u64(number) + bytes((part,)), b"x")

    async def caller(number: int) -> None:
        await three[number % 3].transact(lambda txn: work(txn, number))
        answered.add(number)
        await asyncio.sleep(0)

    tasks = [asyncio.create_task(caller(number)) for number in range(300)]
    for task in rng.sample(tasks, 200):
        task.cancel()
        if rng.random() < 0.3:
            await asyncio.sleep(rng.uniform(0, 0.004))
    await asyncio.gather(*tasks, return_exceptions=True)
    rows = await three[0].read(lambda reader: reader.scan(ENGINE, b"\x11", limit=10_000, keys_only=True))
    found: dict[int, int] = {}
    for key, _ in rows:
        number = int.from_bytes(key[1:9], "big")
        found[number] = found.get(number, 0) + 1
    assert set(found.values()) == {3}
    assert found.keys() == answered
    assert 100 <= len(answered) < 300
    for catalog in three:
        assert catalog.connections[1] <= 1, "a connection leaked"


async def test_reads_cancelled_anywhere_give_their_connections_back(three: list[PostgresCatalog]) -> None:
    catalog = three[0]

    async def write(txn: Transaction) -> None:
        for number in range(2000):
            txn.put(ENGINE + u64(number), b"x" * 500)

    await catalog.transact(write)
    rng = random.Random(5)

    async def reading(number: int) -> None:
        async def function(reader: Reader) -> None:
            await reader.get(ENGINE + u64(number))
            await reader.scan(ENGINE, b"\x11", limit=2000)
            await reader.get(ENGINE + u64(number + 1))

        await catalog.read(function, long=number % 2 == 0)

    for _ in range(10):
        tasks = [asyncio.create_task(reading(number)) for number in range(30)]
        await asyncio.sleep(rng.uniform(0, 0.02))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait_for(reading(1), 10)
    opened, used = catalog.connections
    assert opened <= 16
    assert used <= 1
