"""The memory engine: the common suite, also with a scheduler that interleaves at every await."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from catalog.memory import MemoryCatalog
from tests.catalog.checker import Observed, assert_serializable, check_serializable
from tests.catalog.conformance import CatalogConformance


class TestMemory(CatalogConformance):
    @pytest.fixture
    async def catalog(self) -> AsyncIterator[MemoryCatalog]:
        catalog = MemoryCatalog()
        yield catalog
        await catalog.close()


class TestInterleavedMemory(CatalogConformance):
    @pytest.fixture
    async def catalog(self) -> AsyncIterator[MemoryCatalog]:
        rng = random.Random(3)

        async def on_step() -> None:
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)

        catalog = MemoryCatalog(on_step=on_step)
        yield catalog
        await catalog.close()


async def test_interleaving_makes_transactions_run_again() -> None:
    catalog = MemoryCatalog(on_step=lambda: asyncio.sleep(0))
    await check_serializable(catalog, seed=9, clients=6, transactions=30)
    assert catalog.retries > 0


async def test_old_versions_are_dropped() -> None:
    catalog = MemoryCatalog()
    for i in range(100):

        async def write(txn, i=i):  # type: ignore[no-untyped-def]
            txn.put(b"\x01k", b"%d" % i)

        await catalog.transact(write)
    assert sum(len(versions) for versions in catalog._store.history.values()) <= 2
    assert catalog._log == []


def test_the_checker_finds_write_skew() -> None:
    skew = [Observed(1, {b"a": 0, b"b": 0}, {b"a"}), Observed(2, {b"a": 0, b"b": 0}, {b"b"})]
    with pytest.raises(AssertionError, match="cycle"):
        assert_serializable(skew)


def test_the_checker_finds_a_lost_update() -> None:
    with pytest.raises(AssertionError, match="lost update"):
        assert_serializable([Observed(1, {b"a": 0}, {b"a"}), Observed(2, {b"a": 0}, {b"a"})])


def test_the_checker_finds_a_stale_read() -> None:
    write, read = Observed(1, {b"a": 0}, {b"a"}, 1, 2), Observed(2, {b"a": 0}, set(), 3, 4)
    with pytest.raises(AssertionError, match="cycle"):
        assert_serializable([write, read])
    read.began = 1.5
    assert_serializable([write, read])


def test_the_checker_accepts_a_serial_history() -> None:
    assert_serializable([Observed(1, {b"a": 0}, {b"a"}), Observed(2, {b"a": 1, b"b": 0}, {b"b"})])
