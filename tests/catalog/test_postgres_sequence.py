"""Sequences that are given after the commit: never late with a smaller one, whoever gives them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from catalog.epochs import Epochs
from catalog.errors import FeedTrimmed
from catalog.feed import FeedTrimmer
from catalog.interface import Transaction
from catalog.keys import u64
from catalog.postgres_engine.catalog import PostgresCatalog
from catalog.postgres_engine.identities import Identities
from catalog.postgres_engine.sequencer import Sequencer
from catalog.prefixes import ENGINE, META
from tests.catalog.clocks import ManualClock
from tests.catalog.waiting import eventually

GATEWAYS = 3


@pytest.fixture
async def gateways(postgres_url: str) -> AsyncIterator[list[PostgresCatalog]]:
    """Several on one database."""
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(GATEWAYS):
            catalog = await PostgresCatalog.open(postgres_url)
            stack.push_async_callback(catalog.close)
            opened.append(catalog)
        yield opened


async def put(catalog: PostgresCatalog, key: bytes, value: bytes = b"") -> None:
    async def write(txn: Transaction) -> None:
        txn.put(key, value)

    await catalog.transact(write)


async def followed(catalog: PostgresCatalog, after: int, through: int) -> list[tuple[int, bytes]]:
    """What a follower of the feed sees up to `through`: sequence and key, in the order of arrival. Checks at each
    arrival that the commit can be read, and that nothing came late."""
    seen: list[tuple[int, bytes]] = []
    while after < through:
        newest = await catalog.wait_changes(after)
        while changes := await catalog.changes(after, limit=50):
            for change in changes:
                assert change.sequence > after
                after = change.sequence
                values = await catalog.read(lambda reader, keys=change.keys: reader.get_many(keys))  # type: ignore[misc]
                assert None not in values, "a numbered commit can't be seen"
                seen += [(after, key) for key in change.keys]
        after = max(after, newest)
    return seen


@pytest.mark.parametrize("seed", range(2))
async def test_no_follower_ever_misses_a_commit(gateways: list[PostgresCatalog], seed: int) -> None:
    start = await gateways[0].sequence()
    rng = random.Random(seed)
    written: list[bytes] = []

    async def writer(catalog: PostgresCatalog, number: int) -> None:
        for turn in range(25):
            key = ENGINE + u64(number) + u64(turn)
            await put(catalog, key)
            written.append(key)
            if rng.random() < 0.3:
                await asyncio.sleep(rng.uniform(0, 0.03))

    done = asyncio.Event()
    followers = [asyncio.create_task(_follow_until(catalog, start, done)) for catalog in gateways]
    await asyncio.gather(*(writer(catalog, i) for i, catalog in enumerate(gateways * 4)))
    end = await gateways[1].sequence()
    done.set()
    await put(gateways[0], ENGINE + b"last")
    last = await gateways[0].sequence()
    assert last > end > start
    expected = sorted([*written, ENGINE + b"last"])
    views = await asyncio.wait_for(asyncio.gather(*followers), 30)
    for view in views:
        assert sorted(key for _, key in view) == expected, "each commit exactly once"
    assert views[0] == views[1] == views[2], "the same numbers for everybody"
    assert sum(catalog.sequencer_counters.won for catalog in gateways) > 3


async def _follow_until(catalog: PostgresCatalog, after: int, done: asyncio.Event) -> list[tuple[int, bytes]]:
    seen: list[tuple[int, bytes]] = []
    while not (seen and seen[-1][1] == ENGINE + b"last"):
        newest = await catalog.wait_changes(after)
        seen += await followed(catalog, after, newest)
        after = max(newest, seen[-1][0] if seen else 0)
        await asyncio.sleep(0 if done.is_set() else 0.01)
    return seen


async def test_the_sequence_covers_whatever_a_read_showed(gateways: list[PostgresCatalog]) -> None:
    """What the collector relies on: between the read and the question the commit may have no number yet."""
    writer, reader = gateways[0], gateways[1]
    for turn in range(20):
        key = ENGINE + u64(turn)
        before = await reader.sequence()
        await put(writer, key)
        assert await reader.read(lambda view, key=key: view.get(key)) is not None  # type: ignore[misc]
        covered = await reader.sequence()
        assert covered > before
        feed = await reader.changes(before)
        assert [bytes(one) for change in feed if change.sequence <= covered for one in change.keys] == [key]


async def test_what_is_known_is_never_ahead(gateways: list[PostgresCatalog]) -> None:
    """A pin is taken from `known_sequence` before a read: the read must show all commits up to it."""
    stop = False

    async def write() -> None:
        turn = 0
        while not stop:
            turn += 1
            await put(gateways[0], ENGINE + u64(turn))

    writing = asyncio.create_task(write())
    try:
        for _ in range(60):
            known = gateways[2].known_sequence
            rows = await gateways[2].read(lambda view: view.scan(ENGINE, b"\x11", limit=100_000, keys_only=True))
            shown = {key for key, _ in rows}
            listed = [
                bytes(key) for change in await gateways[1].changes(0) for key in change.keys if change.sequence <= known
            ]
            assert shown.issuperset(listed)
    finally:
        stop = True
        await writing


async def test_a_dead_gateways_last_commits_are_numbered_by_others(gateways: list[PostgresCatalog]) -> None:
    dying, living = gateways[0], gateways[1]
    now = await living.sequence()
    await dying._sequencer.close()  # it dies after the commit, before its next look
    await put(dying, ENGINE + b"last words")
    async with asyncio.timeout(1):
        assert await living.wait_changes(now) == now + 1
    assert [list(change.keys) for change in await living.changes(now)] == [[ENGINE + b"last words"]]


async def test_of_two_that_number_the_same_commits_one_does(postgres_url: str, gateways: list[PostgresCatalog]) -> None:
    """A gateway that was paused between its look and its turn."""
    paused, other = gateways[0]._sequencer, gateways[1]._sequencer
    for gateway in gateways:
        await _stop(gateway._sequencer)
    now = paused.number
    await put(gateways[2], ENGINE + b"a")
    found = await paused._look(0)
    assert len(found) == 1
    await put(gateways[2], ENGINE + b"b")
    assert await other._number(await other._look(0))
    assert await paused._number(found) is False
    assert other.number == now + 1
    await paused._turn(whole=True)
    assert paused.number == now + 1
    rows = await gateways[2].read(lambda view: view.scan(b"\x02", b"\x03", limit=10), long=True)
    assert len(rows) == 1
    connection = await asyncpg.connect(postgres_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM atoll_outbox") == 0
    finally:
        await connection.close()


async def _stop(sequencer: Sequencer) -> None:
    sequencer._task.cancel()
    await asyncio.gather(sequencer._task, return_exceptions=True)


async def test_a_commit_that_took_long_is_numbered_all_the_same(
    gateways: list[PostgresCatalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id is older than what a usual look goes back to."""
    await gateways[1].sequence()
    now = gateways[1].known_sequence
    monkeypatch.setattr(Identities, "now_us", lambda self: 1_000_000)
    monkeypatch.setattr(gateways[0]._identities, "_last_us", 0)
    await put(gateways[0], ENGINE + b"slow")
    monkeypatch.undo()
    async with asyncio.timeout(5):
        assert await gateways[1].wait_changes(now) > now


async def test_ids_keep_their_order_when_the_databases_clock_goes_back() -> None:
    identities = Identities()
    identities.hear(2_000_000, 0.0, 0.0)
    first = identities.new()
    identities.hear(1_000_000, 0.0, 0.0)
    second = identities.new()
    assert Identities.order(first) < Identities.order(second)
    lows, highs = Identities.ranges(Identities.time_us(first), Identities.time_us(first) + 1)
    assert sum(low <= first < high for low, high in zip(lows, highs, strict=True)) == 1
    assert not any(low <= second < high for low, high in zip(lows, highs, strict=True))


async def test_coordination_is_numbered_and_not_listed(gateways: list[PostgresCatalog]) -> None:
    now = await gateways[0].sequence()
    await put(gateways[0], META + b"x")
    assert await gateways[1].sequence() == now + 1
    assert await gateways[1].changes(now) == []


async def test_trimming_by_one_is_seen_by_all(gateways: list[PostgresCatalog]) -> None:
    clock = ManualClock()
    clock.jump_to_now()
    start = await gateways[0].sequence()
    await put(gateways[0], ENGINE + b"a")
    await gateways[0].sequence()
    clock.advance(3600)
    await FeedTrimmer(gateways[1], clock, keep_seconds=10).turn()
    with pytest.raises(FeedTrimmed):
        await gateways[2].changes(start)
    assert await gateways[2].changes(await gateways[2].sequence()) == []


async def test_a_reader_of_another_gateway_holds_collection_back(gateways: list[PostgresCatalog]) -> None:
    """Horizons over a shared catalog: what a commit removed may go once every gateway's reads show the commit."""
    clock = ManualClock()
    clock.jump_to_now()
    one, other = [await Epochs.register(catalog, clock) for catalog in gateways[:2]]
    pin = other.take_pin()
    await other.beat()
    await put(gateways[0], ENGINE + b"removal")
    removed = await gateways[0].sequence()
    assert not await one.all_passed(removed)
    pin.release()
    assert not await one.all_passed(removed), "told by the next heartbeat only"
    await eventually(lambda: _knows(gateways[1], removed))
    await other.beat()
    assert await one.all_passed(removed)


async def _knows(catalog: PostgresCatalog, sequence: int) -> bool:
    return catalog.known_sequence >= sequence
