"""Leases and their fencing tokens."""

from __future__ import annotations

import asyncio

import pytest

from catalog.errors import LeaseLost
from catalog.interface import Transaction
from catalog.leases import Lease, Leases
from catalog.memory import MemoryCatalog
from tests.catalog.clocks import ManualClock

NAME = b"compaction"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def catalog() -> MemoryCatalog:
    return MemoryCatalog(on_step=lambda: asyncio.sleep(0))


async def guarded(catalog: MemoryCatalog, lease: Lease) -> None:
    async def work(txn: Transaction) -> None:
        await lease.guard(txn)
        txn.put(b"\x10work", b"done")

    await catalog.transact(work)


async def test_one_holder_until_it_expires(catalog: MemoryCatalog, clock: ManualClock) -> None:
    one, two = Leases(catalog, clock, holder=b"one"), Leases(catalog, clock, holder=b"two")
    first = await one.acquire(NAME, 10)
    assert first is not None
    assert await two.acquire(NAME, 10) is None
    assert await two.holder(NAME) == b"one"
    clock.advance(8)
    await first.renew(10)
    clock.advance(8)
    assert await two.acquire(NAME, 10) is None
    clock.advance(9)
    assert await two.acquire(NAME, 10) is None, "it was prolonged since it was first looked at"
    clock.advance(1)
    second = await two.acquire(NAME, 10)
    assert second is not None
    assert second.token > first.token
    with pytest.raises(LeaseLost):
        await first.renew(10)
    with pytest.raises(LeaseLost):
        await guarded(catalog, first)
    await guarded(catalog, second)


async def test_of_many_at_once_one_gets_it(catalog: MemoryCatalog, clock: ManualClock) -> None:
    asked = [Leases(catalog, clock, holder=b"%d" % i).acquire(NAME, 10) for i in range(20)]
    assert sum(lease is not None for lease in await asyncio.gather(*asked)) == 1


async def test_release_fences_and_frees(catalog: MemoryCatalog, clock: ManualClock) -> None:
    one, two = Leases(catalog, clock, holder=b"one"), Leases(catalog, clock, holder=b"two")
    first = await one.acquire(NAME, 10)
    assert first is not None
    await first.release()
    with pytest.raises(LeaseLost):
        await guarded(catalog, first)
    second = await two.acquire(NAME, 10)
    assert second is not None
    await first.release()
    await guarded(catalog, second)


async def test_expired_but_untaken_still_guards(catalog: MemoryCatalog, clock: ManualClock) -> None:
    lease = await Leases(catalog, clock, holder=b"one").acquire(NAME, 10)
    assert lease is not None
    clock.advance(100)
    await guarded(catalog, lease)


async def test_a_takeover_between_guard_and_commit_is_noticed(catalog: MemoryCatalog, clock: ManualClock) -> None:
    """The guard is a read in the transaction: the takeover makes it run again, and then refuse."""
    one, two = Leases(catalog, clock, holder=b"one"), Leases(catalog, clock, holder=b"two")
    lease = await one.acquire(NAME, 10)
    assert lease is not None
    assert await two.acquire(NAME, 10) is None
    clock.advance(11)
    runs = 0

    async def work(txn: Transaction) -> None:
        nonlocal runs
        runs += 1
        await lease.guard(txn)
        if runs == 1:
            # Stands for another process at this very moment; the memory engine allows it.
            assert await two.acquire(NAME, 10) is not None
        txn.put(b"\x10work", b"late")

    with pytest.raises(LeaseLost):
        await catalog.transact(work)
    assert runs == 2
    assert await catalog.read(lambda r: r.get(b"\x10work")) is None
    assert lease.token == 1


async def test_renewal_does_not_disturb_guarded_work(catalog: MemoryCatalog, clock: ManualClock) -> None:
    lease = await Leases(catalog, clock, holder=b"one").acquire(NAME, 10)
    assert lease is not None
    before = catalog.retries
    await asyncio.gather(*(guarded(catalog, lease) for _ in range(5)), lease.renew(10))
    assert catalog.retries == before


def test_a_nameless_holder_is_refused(catalog: MemoryCatalog, clock: ManualClock) -> None:
    with pytest.raises(ValueError):
        Leases(catalog, clock, holder=b"")
