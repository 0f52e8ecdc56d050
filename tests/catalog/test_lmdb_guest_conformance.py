"""A guest of an LMDB catalog against the suite that every engine passes, its host being another process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from catalog.errors import CatalogMisuse
from catalog.interface import Catalog
from catalog.lmdb_engine.guest import GuestCatalog
from tests.catalog.conformance import A, CatalogConformance
from tests.catalog.lmdb_host import HostProcess


@pytest.fixture(scope="module")
def host() -> Iterator[HostProcess]:
    host = HostProcess()
    yield host
    host.stop()


async def guest_of(host: HostProcess, folder: Path, *, busy: bool) -> AsyncIterator[GuestCatalog]:
    connection, ended = host.own(folder, busy=busy)
    lost: list[bool] = []
    catalog = await GuestCatalog.open(folder, connection, on_lost=lambda: lost.append(True))
    yield catalog
    await catalog.close()
    ended.settimeout(10)
    with ended:
        assert await asyncio.to_thread(ended.recv, 1) == b"."
    assert not lost


class _Guest(CatalogConformance):
    async def test_load_fills_without_feed(self, catalog: Catalog) -> None:
        """Only the owner does."""
        with pytest.raises(CatalogMisuse):
            await catalog.load([(A, b"1")], sequence=50)


@pytest.mark.xdist_group("lmdb-guest")
class TestGuest(_Guest):
    @pytest.fixture
    async def catalog(self, tmp_path: Path, host: HostProcess) -> AsyncIterator[GuestCatalog]:
        async for catalog in guest_of(host, tmp_path / "catalog", busy=False):
            yield catalog


@pytest.mark.xdist_group("lmdb-guest")
class TestGuestOfABusyHost(_Guest):
    """The host writes the same rows all the time, which outdates transactions; what counts commits is left out."""

    @pytest.fixture
    async def catalog(self, tmp_path: Path, host: HostProcess) -> AsyncIterator[GuestCatalog]:
        async for catalog in guest_of(host, tmp_path / "catalog", busy=True):
            yield catalog

    test_an_exception_writes_nothing = None  # type: ignore[assignment]
    test_a_large_transaction_is_one = None  # type: ignore[assignment]
    test_the_feed_lists_every_change_once_in_order = None  # type: ignore[assignment]
    test_coordination_rows_are_not_in_the_feed = None  # type: ignore[assignment]
    test_waiting_wakes_with_the_commit = None  # type: ignore[assignment]
    test_trimming_waits_for_consumers_and_tells_the_late = None  # type: ignore[assignment]
