"""Epochs, fencing of dead processes, pins and horizons."""

from __future__ import annotations

import asyncio

import pytest

from catalog.epochs import EpochKeeper, Epochs
from catalog.errors import EpochLost
from catalog.interface import Transaction
from catalog.memory import MemoryCatalog
from tests.catalog.clocks import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def catalog() -> MemoryCatalog:
    return MemoryCatalog(on_step=lambda: asyncio.sleep(0))


async def commit(catalog: MemoryCatalog, epochs: Epochs, key: bytes = b"\x10k") -> int:
    async def work(txn: Transaction) -> None:
        await epochs.guard(txn)
        txn.put(key, b"")

    await catalog.transact(work)
    return catalog.known_sequence


async def test_epochs_rise_and_are_never_given_twice(catalog: MemoryCatalog, clock: ManualClock) -> None:
    many = await asyncio.gather(*(Epochs.register(catalog, clock, alone=False) for _ in range(10)))
    assert len({epochs.epoch for epochs in many}) == 10
    clock.advance(-500_000)
    later = await Epochs.register(catalog, clock, alone=False)
    assert later.epoch > max(epochs.epoch for epochs in many)


async def test_a_restored_catalog_gives_fresh_epochs(clock: ManualClock) -> None:
    """What was given out after the backup is not known to it."""
    lost = await Epochs.register(MemoryCatalog(), clock)
    clock.advance(1)
    restored = await Epochs.register(MemoryCatalog(), clock)
    assert restored.epoch > lost.epoch


async def test_alone_all_earlier_are_dead_at_once(catalog: MemoryCatalog, clock: ManualClock) -> None:
    first = await Epochs.register(catalog, clock)
    second = await Epochs.register(catalog, clock)
    assert await second.live() == [second.epoch]
    assert await second.dead() == [first.epoch]
    with pytest.raises(EpochLost):
        await commit(catalog, first)
    await commit(catalog, second)


async def test_a_dead_process_commits_nothing_even_halfway(catalog: MemoryCatalog, clock: ManualClock) -> None:
    """Marked dead between its guard and its commit: the commit is refused."""
    paused = await Epochs.register(catalog, clock, alone=False)
    other = await Epochs.register(catalog, clock, alone=False)
    runs = 0

    async def work(txn: Transaction) -> None:
        nonlocal runs
        runs += 1
        await paused.guard(txn)
        if runs == 1:
            await other.mark_dead(paused.epoch)
        txn.put(b"\x10late", b"")

    with pytest.raises(EpochLost):
        await catalog.transact(work)
    assert runs == 2
    assert await catalog.read(lambda r: r.get(b"\x10late")) is None


async def test_forgotten_stays_fenced(catalog: MemoryCatalog, clock: ManualClock) -> None:
    dead = await Epochs.register(catalog, clock, alone=False)
    other = await Epochs.register(catalog, clock, alone=False)
    await other.forget(dead.epoch)
    await commit(catalog, dead)
    await other.mark_dead(dead.epoch)
    await other.forget(dead.epoch)
    assert await other.dead() == []
    with pytest.raises(EpochLost):
        await commit(catalog, dead)
    await other.mark_dead(dead.epoch)
    assert await other.dead() == []


async def test_expiry_by_heartbeat(catalog: MemoryCatalog, clock: ManualClock) -> None:
    silent = await Epochs.register(catalog, clock, alone=False)
    beating = await Epochs.register(catalog, clock, alone=False)
    judge = await Epochs.register(catalog, clock, alone=False)
    keepers = [EpochKeeper(epochs, expiry=30) for epochs in (beating, judge)]
    for _ in range(5):
        clock.advance(10)
        for keeper in keepers:
            await keeper.turn()
    assert await judge.live() == [beating.epoch, judge.epoch]
    assert await judge.dead() == [silent.epoch]
    assert sum(keeper.report().counters["marked_dead"] for keeper in keepers) == 1
    with pytest.raises(EpochLost):
        await silent.beat()


async def test_clocks_an_hour_apart_kill_nobody(catalog: MemoryCatalog) -> None:
    """Of three that beat, one's wall clock is an hour ahead and one's an hour behind."""
    clocks = [ManualClock(1_000_000 + off) for off in (0, 3600, -3600)]
    all_epochs = [await Epochs.register(catalog, clock, alone=False) for clock in clocks]
    keepers = [EpochKeeper(epochs, expiry=15) for epochs in all_epochs]
    for _ in range(20):
        for clock, keeper in zip(clocks, keepers, strict=True):
            clock.advance(3)
            await keeper.turn()
    assert await all_epochs[0].live() == sorted(epochs.epoch for epochs in all_epochs)
    for _ in range(7):
        for clock, keeper in list(zip(clocks, keepers, strict=True))[1:]:
            clock.advance(3)
            await keeper.turn()
    assert await all_epochs[1].dead() == [all_epochs[0].epoch], "and the silent one is found, whatever its clock"


async def test_who_did_not_look_judges_nobody(catalog: MemoryCatalog, clock: ManualClock) -> None:
    """After an outage for all, the first to come back does not take the others for dead."""
    one = await Epochs.register(catalog, clock, alone=False)
    judge = await Epochs.register(catalog, clock, alone=False)
    keeper = EpochKeeper(judge, expiry=15)
    await keeper.turn()
    clock.advance(60)
    await keeper.turn()
    clock.advance(3)
    await one.beat()
    for _ in range(5):
        await keeper.turn()
        clock.advance(3)
    assert await judge.dead() == []


async def test_the_process_that_was_declared_dead_is_told_once(catalog: MemoryCatalog, clock: ManualClock) -> None:
    epochs = await Epochs.register(catalog, clock, alone=False)
    told: list[str] = []
    keeper = EpochKeeper(epochs, lost=lambda: told.append("lost"))
    await keeper.turn()
    await epochs.mark_dead(epochs.epoch)
    for _ in range(2):
        with pytest.raises(EpochLost):
            await keeper.turn()
    assert told == ["lost"]


async def test_beats_do_not_disturb_commits(catalog: MemoryCatalog, clock: ManualClock) -> None:
    epochs = await Epochs.register(catalog, clock)
    before = catalog.retries
    await asyncio.gather(*(commit(catalog, epochs, b"\x10%d" % i) for i in range(10)), epochs.beat())
    assert catalog.retries == before


async def test_a_pin_holds_back_until_released(catalog: MemoryCatalog, clock: ManualClock) -> None:
    epochs = await Epochs.register(catalog, clock)
    await commit(catalog, epochs)
    pin = epochs.take_pin()
    removal = await commit(catalog, epochs)
    assert not await epochs.all_passed(removal)
    late = epochs.take_pin()
    pin.release()
    assert await epochs.all_passed(removal)
    pin.release()
    late.release()
    with epochs.take_pin(), epochs.take_pin():
        newer = await commit(catalog, epochs)
        assert not await epochs.all_passed(newer)
    assert epochs.oldest() == newer
    assert await epochs.all_passed(newer)


async def test_other_gateways_count_as_of_their_last_beat(catalog: MemoryCatalog, clock: ManualClock) -> None:
    reader = await Epochs.register(catalog, clock, alone=False)
    collector = await Epochs.register(catalog, clock, alone=False)
    pin = reader.take_pin()
    removal = await commit(catalog, collector)
    await reader.beat()
    assert not await collector.all_passed(removal)
    pin.release()
    assert not await collector.all_passed(removal)
    await reader.beat()
    assert await collector.all_passed(removal)
    blocked = await commit(catalog, collector)
    assert not await collector.all_passed(blocked)
    await reader.close()
    assert await collector.all_passed(blocked)
