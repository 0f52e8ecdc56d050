"""What every catalog engine must do. A subclass provides the fixture `catalog` and inherits the tests."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Any

import pytest

from catalog.errors import FeedTrimmed
from catalog.feed import FeedConsumer, FeedTrimmer
from catalog.interface import MAX_KEY, MAX_VALUE, Catalog, Reader, Row, Transaction
from catalog.keys import prefix_end, u64
from catalog.prefixes import ENGINE, META
from tests.catalog.checker import check_serializable
from tests.catalog.clocks import ManualClock

A, B, C = ENGINE + b"a", ENGINE + b"b", ENGINE + b"c"


async def put(catalog: Catalog, *rows: Row) -> None:
    async def write(txn: Transaction) -> None:
        for key, value in rows:
            txn.put(key, value)

    await catalog.transact(write)


async def remove(catalog: Catalog, *keys: bytes) -> None:
    async def write(txn: Transaction) -> None:
        for key in keys:
            txn.delete(key)

    await catalog.transact(write)


async def get(catalog: Catalog, key: bytes) -> bytes | None:
    return await catalog.read(lambda reader: reader.get(key))


async def scan(catalog: Catalog, start: bytes = ENGINE, end: bytes = b"\x11", **options: Any) -> list[Row]:
    options.setdefault("limit", 10_000)
    return await catalog.read(lambda reader: reader.scan(start, end, **options))


class CatalogConformance:
    """The suite. `catalog` is a fixture that gives an empty catalog and closes it."""

    # --- reads and writes ---

    async def test_absent_then_written_then_removed(self, catalog: Catalog) -> None:
        assert await get(catalog, A) is None
        await put(catalog, (A, b"1"), (B, b""))
        assert await get(catalog, A) == b"1"
        assert await get(catalog, B) == b""
        await remove(catalog, A, C)
        assert await get(catalog, A) is None
        assert await scan(catalog) == [(B, b"")]

    async def test_get_many_keeps_order_and_gaps(self, catalog: Catalog) -> None:
        await put(catalog, (A, b"1"), (C, b"3"))
        assert await catalog.read(lambda r: r.get_many([C, B, A, C])) == [b"3", None, b"1", b"3"]
        assert await catalog.transact(lambda t: t.get_many([C, B, A])) == [b"3", None, b"1"]

    async def test_scan_bounds_limits_directions(self, catalog: Catalog) -> None:
        rows = [(ENGINE + bytes((i,)), b"%d" % i) for i in range(10)]
        await put(catalog, *rows)
        assert await scan(catalog, rows[2][0], rows[5][0]) == rows[2:5]
        assert await scan(catalog, rows[2][0], rows[5][0], reverse=True) == rows[2:5][::-1]
        assert await scan(catalog, limit=3) == rows[:3]
        assert await scan(catalog, limit=3, reverse=True) == rows[:-4:-1]
        assert await scan(catalog, limit=0) == []
        assert await scan(catalog, rows[5][0], rows[5][0]) == []
        assert await scan(catalog, rows[6][0], rows[5][0]) == []
        assert await scan(catalog, keys_only=True, limit=2) == [(rows[0][0], b""), (rows[1][0], b"")]

    async def test_order_is_bytewise_whatever_the_length(self, catalog: Catalog) -> None:
        rng = random.Random(5)
        shared = bytes(rng.randrange(256) for _ in range(1000))
        keys = {ENGINE + shared[:n] for n in range(0, 1001, 7)}
        keys |= {ENGINE + shared[:n] + bytes((b,)) for n in (492, 507, 508, 509, 510, 511, 1000) for b in (0, 1, 255)}
        keys |= {ENGINE + shared + rng.randbytes(rng.randrange(1, 1190)) for _ in range(200)}
        keys |= {ENGINE + shared[: rng.randrange(1001)] + rng.randbytes(rng.randrange(1, 600)) for _ in range(200)}
        keys |= {ENGINE + b"\xff" * n for n in (1, 509, 510, 511, 2100, MAX_KEY - 1)}
        keys |= {ENGINE + b"\x00" * n for n in (1, 509, 510, 511, 2100, MAX_KEY - 1)}
        rows = [(key, b"v%d" % i) for i, key in enumerate(sorted(keys))]
        await put(catalog, *rng.sample(rows, len(rows)))
        assert await scan(catalog, end=ENGINE + b"\xff" * 2199 + b"\xff") == rows
        assert await scan(catalog, reverse=True) == rows[::-1]
        for _ in range(200):
            low, high = sorted((rng.choice(rows)[0], rng.choice(rows)[0][: rng.randrange(1, 1200)] + b"\x00"))
            inside = [row for row in rows if low <= row[0] < high]
            assert await scan(catalog, low, high) == inside
            assert await scan(catalog, low, high, reverse=True, limit=5) == inside[::-1][:5]
        for key, value in rows:
            assert await get(catalog, key) == value

    async def test_limits_are_enforced(self, catalog: Catalog) -> None:
        for key, value in ((b"", b""), (b"k" * (MAX_KEY + 1), b""), (A, b"v" * (MAX_VALUE + 1))):
            with pytest.raises(ValueError):
                await put(catalog, (key, value))
        for key in (b"", b"k" * (MAX_KEY + 1)):
            with pytest.raises(ValueError):
                await remove(catalog, key)
        await put(catalog, (ENGINE * MAX_KEY, b"v" * MAX_VALUE))
        assert await get(catalog, ENGINE * MAX_KEY) == b"v" * MAX_VALUE

    async def test_long_reads_see_the_same(self, catalog: Catalog) -> None:
        await put(catalog, *[(ENGINE + u64(i), b"x") for i in range(5000)])

        async def count(reader: Reader) -> int:
            return len(await reader.scan(ENGINE, b"\x11", limit=10_000, keys_only=True))

        assert await catalog.read(count, long=True) == 5000

    # --- transactions ---

    async def test_a_transaction_reads_its_own_writes(self, catalog: Catalog) -> None:
        await put(catalog, (A, b"1"), (B, b"2"))

        async def work(txn: Transaction) -> tuple[bytes | None, bytes | None, list[Row], list[Row]]:
            txn.put(C, b"3")
            txn.put(B, b"22")
            txn.delete(A)
            return (
                await txn.get(A),
                await txn.get(B),
                await txn.scan(ENGINE, b"\x11", limit=10),
                await txn.scan(ENGINE, b"\x11", limit=1, reverse=True, keys_only=True),
            )

        assert await catalog.transact(work) == (None, b"22", [(B, b"22"), (C, b"3")], [(C, b"")])
        assert await scan(catalog) == [(B, b"22"), (C, b"3")]

    async def test_an_exception_writes_nothing(self, catalog: Catalog) -> None:
        await put(catalog, (A, b"1"))
        before = await catalog.sequence()

        async def fail(txn: Transaction) -> None:
            txn.put(A, b"2")
            txn.put(B, b"2")
            raise LookupError("refused")

        with pytest.raises(LookupError, match="refused"):
            await catalog.transact(fail)
        assert await scan(catalog) == [(A, b"1")]
        assert await catalog.sequence() == before

    async def test_a_failing_transaction_leaves_its_neighbours_alone(self, catalog: Catalog) -> None:
        async def work(index: int, txn: Transaction) -> int:
            txn.put(ENGINE + u64(index), b"x")
            if index % 3 == 0:
                raise LookupError(str(index))
            return index

        def bound(index: int) -> Any:
            return catalog.transact(lambda txn: work(index, txn))

        results = await asyncio.gather(*(bound(i) for i in range(60)), return_exceptions=True)
        assert [r for r in results if not isinstance(r, LookupError)] == [i for i in range(60) if i % 3]
        assert [key for key, _ in await scan(catalog)] == [ENGINE + u64(i) for i in range(60) if i % 3]

    async def test_blind_puts_of_one_key_all_succeed(self, catalog: Catalog) -> None:
        await asyncio.gather(*(put(catalog, (A, b"%d" % i)) for i in range(50)))
        assert await get(catalog, A) in {b"%d" % i for i in range(50)}

    async def test_increments_are_not_lost(self, catalog: Catalog) -> None:
        async def increment(txn: Transaction) -> int:
            value = int(await txn.get(A) or b"0") + 1
            txn.put(A, b"%d" % value)
            return value

        results = await asyncio.gather(*(catalog.transact(increment) for _ in range(100)))
        assert sorted(results) == list(range(1, 101))
        assert await get(catalog, A) == b"100"

    async def test_one_of_many_creators_wins(self, catalog: Catalog) -> None:
        async def create(name: bytes, txn: Transaction) -> bool:
            if await txn.get(A) is not None:
                return False
            txn.put(A, name)
            return True

        names = [b"%d" % i for i in range(40)]
        won = await asyncio.gather(*(catalog.transact(partial(create, name)) for name in names))
        assert sum(won) == 1
        assert await get(catalog, A) == names[won.index(True)]

    async def test_write_skew_is_impossible(self, catalog: Catalog) -> None:
        """Two on call, each may leave only if the other stays."""
        for _ in range(20):
            await put(catalog, (A, b"on"), (B, b"on"))

            async def leave(mine: bytes, other: bytes, txn: Transaction) -> bool:
                if await txn.get(mine) == b"on" == await txn.get(other):
                    txn.put(mine, b"off")
                    return True
                return False

            left = await asyncio.gather(catalog.transact(partial(leave, A, B)), catalog.transact(partial(leave, B, A)))
            assert sum(left) == 1

    async def test_phantoms_are_impossible(self, catalog: Catalog) -> None:
        """At most three rows in a range, checked by counting it."""

        async def enter(index: int, txn: Transaction) -> bool:
            if len(await txn.scan(ENGINE, b"\x11", limit=10)) >= 3:
                return False
            txn.put(ENGINE + u64(index), b"")
            return True

        entered = await asyncio.gather(*(catalog.transact(partial(enter, i)) for i in range(20)))
        assert sum(entered) == 3
        assert len(await scan(catalog)) == 3

    @pytest.mark.parametrize("seed", range(4))
    async def test_random_histories_are_serializable(self, catalog: Catalog, seed: int) -> None:
        await check_serializable(catalog, seed=seed, clients=8, transactions=40)

    async def test_a_reader_sees_all_or_nothing_of_each_transaction(self, catalog: Catalog) -> None:
        await put(catalog, (A, b"0"), (B, b"0"))
        done = False

        async def write() -> None:
            nonlocal done
            for i in range(200):
                await put(catalog, (A, b"%d" % i), (B, b"%d" % i))
            done = True

        async def both(reader: Reader) -> tuple[bytes | None, bytes | None]:
            first = await reader.get(A)
            return first, (await reader.scan(B, C, limit=1))[0][1]

        writer = asyncio.create_task(write())
        seen = set()
        while not done:
            pair = await catalog.read(both)
            assert pair[0] == pair[1]
            seen.add(pair)
            await asyncio.sleep(0)
        await writer
        assert await catalog.read(both) == (b"199", b"199")
        assert seen

    async def test_a_large_transaction_is_one(self, catalog: Catalog) -> None:
        rows = [(ENGINE + u64(i), b"x" * 100) for i in range(20_000)]
        sequence = await catalog.sequence()
        await put(catalog, *rows)
        assert await catalog.sequence() == sequence + 1
        assert await scan(catalog, limit=30_000) == rows

        async def clear(txn: Transaction) -> None:
            for key, _ in await txn.scan(ENGINE, b"\x11", limit=30_000, keys_only=True):
                txn.delete(key)

        await catalog.transact(clear)
        assert await scan(catalog) == []

    async def test_scans_in_transactions_see_pending_neighbours(self, catalog: Catalog) -> None:
        """Many transactions append behind the last row that they find; none may miss another's."""

        async def append(txn: Transaction) -> int:
            last = await txn.scan(ENGINE, b"\x11", limit=1, reverse=True)
            number = int.from_bytes(last[0][0][1:], "big") + 1 if last else 0
            txn.put(ENGINE + u64(number), b"")
            if number % 5 == 0 and number:
                txn.delete(ENGINE + u64(number - 3))
            return number

        numbers = await asyncio.gather(*(catalog.transact(append) for _ in range(150)))
        assert sorted(numbers) == list(range(150))
        expected = [n for n in range(150) if not ((n + 3) % 5 == 0 and n + 3 < 150)]
        assert [int.from_bytes(key[1:], "big") for key, _ in await scan(catalog)] == expected

    async def test_cancelled_before_or_after_but_never_in_doubt(self, catalog: Catalog) -> None:
        """A caller that is cancelled either gets its result or has written nothing."""
        for delay in range(8):
            key = ENGINE + u64(delay)
            results: list[bool] = []

            async def caller(key: bytes = key, results: list[bool] = results) -> None:
                try:
                    await put(catalog, (key, b""))
                except asyncio.CancelledError:
                    results.append(False)
                    raise
                results.append(True)
                await asyncio.sleep(0)

            task = asyncio.create_task(caller())
            for _ in range(delay):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert (await get(catalog, key) is not None) == (results == [True])

    # --- the feed ---

    async def test_the_feed_lists_every_change_once_in_order(self, catalog: Catalog) -> None:
        start = await catalog.sequence()
        expected = set()
        for i in range(30):
            await put(catalog, (ENGINE + u64(i), b""))
            expected.add(ENGINE + u64(i))
        await asyncio.gather(*(put(catalog, (A + u64(i), b"")) for i in range(50)))
        expected |= {A + u64(i) for i in range(50)}
        await remove(catalog, ENGINE + u64(7))
        seen: list[bytes] = []
        after = start
        while changes := await catalog.changes(after, limit=4):
            assert [c.sequence for c in changes] == sorted({c.sequence for c in changes})
            assert changes[0].sequence > after
            after = changes[-1].sequence
            seen += [key for change in changes for key in change.keys]
        assert set(seen) == expected
        assert len(seen) == len(expected) + 1
        assert seen[-1] == ENGINE + u64(7)
        assert after == await catalog.sequence() == catalog.known_sequence

    async def test_coordination_rows_are_not_in_the_feed(self, catalog: Catalog) -> None:
        before = await catalog.sequence()
        await put(catalog, (META + b"x", b""))
        assert await catalog.sequence() == before + 1
        assert await catalog.changes(before) == []

    async def test_waiting_wakes_with_the_commit(self, catalog: Catalog) -> None:
        now = await catalog.sequence()
        waiter = asyncio.create_task(catalog.wait_changes(now))
        await asyncio.sleep(0.01)
        assert not waiter.done()
        await put(catalog, (A, b""))
        assert await asyncio.wait_for(waiter, 1) == now + 1
        assert await catalog.wait_changes(now) == now + 1

    async def test_trimming_waits_for_consumers_and_tells_the_late(self, catalog: Catalog) -> None:
        clock = ManualClock()
        clock.jump_to_now()
        trimmer = FeedTrimmer(catalog, clock, keep_seconds=60, max_seconds=600)
        consumer = FeedConsumer(catalog, b"copy")
        start = await consumer.register()
        await put(catalog, (A, b""))
        first = await catalog.sequence()
        await put(catalog, (B, b""))
        await trimmer.turn()
        assert len(await catalog.changes(start)) == 2
        clock.advance(100)
        await trimmer.turn()
        assert len(await catalog.changes(start)) == 2
        await consumer.advance(first)
        await trimmer.turn()
        with pytest.raises(FeedTrimmed) as caught:
            await catalog.changes(start)
        assert caught.value.oldest == first
        assert [change.keys for change in await catalog.changes(first)] in ([[B]], [(B,)])
        assert await consumer.register() == first
        clock.advance(1000)
        await trimmer.turn()
        with pytest.raises(FeedTrimmed):
            await catalog.changes(first)
        await consumer.unregister()
        assert await catalog.changes(await catalog.sequence()) == []

    # --- whole catalogs ---

    async def test_export_is_one_snapshot(self, catalog: Catalog) -> None:
        rows = [(ENGINE + u64(i) + b"k" * (i % 700), b"v") for i in range(2500)]
        await put(catalog, *rows)
        exported: list[Row] = []
        async for run in catalog.export():
            if not exported:
                await put(catalog, (prefix_end(ENGINE)[:1] + b"late", b""), (rows[-1][0], b"changed"))
            exported += run
        assert [row for row in exported if row[0][:1] >= ENGINE] == rows

    async def test_load_fills_without_feed(self, catalog: Catalog) -> None:
        await catalog.load([(A, b"1"), (B * 800, b"2")], sequence=50)
        assert await scan(catalog) == [(A, b"1"), (B * 800, b"2")]
        assert await catalog.sequence() >= 50
        assert await catalog.changes(await catalog.sequence()) == []
        with pytest.raises(FeedTrimmed):
            await catalog.changes(49)
