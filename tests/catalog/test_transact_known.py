"""Transactions whose reads are known beforehand: the same as any other, or they say that nothing has happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from catalog.errors import CatalogMoving
from catalog.fencing import FencedCatalog, fenced_by
from catalog.interface import MAX_VALUE, Transaction
from catalog.leases import Lease, Leases
from catalog.lmdb_engine import writer
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.lmdb_engine.guest import GuestCatalog
from core.clock import SystemClock
from tests.catalog.conformance import A, B, C, get, put, scan
from tests.catalog.lmdb_host import HostProcess
from tests.catalog.test_lmdb_guest_conformance import guest_of

pytestmark = pytest.mark.xdist_group("lmdb-guest")

LONG = b"\x10" + b"long" * 400
Embedded = LmdbCatalog | GuestCatalog


@pytest.fixture(scope="module")
def host() -> Iterator[HostProcess]:
    host = HostProcess()
    yield host
    host.stop()


@pytest.fixture(params=["owner", "guest", "guest of a busy host"])
async def catalog(request: pytest.FixtureRequest, tmp_path: Path, host: HostProcess) -> AsyncIterator[Embedded]:
    folder = tmp_path / "catalog"
    if request.param == "owner":
        owner = await LmdbCatalog.open(folder)
        yield owner
        await owner.close()
    else:
        async for guest in guest_of(host, folder, busy="busy" in request.param):
            yield guest


async def count_up(catalog: Embedded) -> bool:
    """One more in row A, by whatever it holds."""
    return await catalog.transact_known((A,), lambda found: {A: b"%d" % (int(found[0] or b"0") + 1)})


async def test_what_it_writes_is_there_when_it_returns(catalog: Embedded) -> None:
    await put(catalog, (B, b"old"), (LONG, b"1"))
    seen: list[list[bytes | None]] = []

    def decide(found: list[bytes | None]) -> dict[bytes, bytes | None]:
        seen.append(found)
        return {C: b"new", LONG: b"2", B: None}

    while not await catalog.transact_known((B, C, LONG), decide):
        pass  # a busy host writes these rows all the time, as they are
    assert seen[-1] == [b"old", None, b"1"]
    assert (await get(catalog, B), await get(catalog, C), await get(catalog, LONG)) == (None, b"new", b"2")
    (*_, change) = [each for each in await catalog.changes(0) if C in each.keys]
    assert {B, C, LONG} <= set(change.keys)


@pytest.mark.parametrize("nothing", [None, {}])
async def test_nothing_decided_is_nothing_done(catalog: Embedded, nothing: dict[bytes, bytes | None] | None) -> None:
    await put(catalog, (B, b"1"))
    assert not await catalog.transact_known((B,), lambda _: nothing)
    assert await get(catalog, B) == b"1"


async def test_a_row_that_is_too_large_is_refused_and_harms_nobody(catalog: Embedded) -> None:
    large: dict[bytes, bytes | None] = {B: b"1", C: bytes(MAX_VALUE + 1)}
    other = asyncio.create_task(put(catalog, (A, b"0")))
    with pytest.raises(ValueError, match="bytes"):
        await catalog.transact_known((B,), lambda _: large)
    await other
    assert (await get(catalog, A), await get(catalog, B)) == (b"0", None)


async def test_an_error_of_the_decision_writes_nothing(catalog: Embedded) -> None:
    def decide(found: list[bytes | None]) -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        await catalog.transact_known((A,), decide)
    while not await count_up(catalog):
        pass
    assert await get(catalog, A) == b"1"


async def test_no_update_is_lost_among_both_kinds(catalog: Embedded) -> None:
    async def usual(txn: Transaction) -> None:
        txn.put(A, b"%d" % (int(await txn.get(A) or b"0") + 1))

    async def known() -> None:
        for _ in range(10):
            while not await count_up(catalog):
                pass

    async def others() -> None:
        for _ in range(10):
            await catalog.transact(usual)

    await asyncio.gather(*(known() if number % 2 else others() for number in range(8)))
    assert await get(catalog, A) == b"80"


async def test_it_is_decided_on_what_is_pending(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path)
    pending = asyncio.create_task(put(catalog, (A, b"7")))
    await asyncio.sleep(0)
    assert await get(catalog, A) is None
    assert await count_up(catalog)
    await pending
    assert await get(catalog, A) == b"8"
    await catalog.gate.close("it moves")
    with pytest.raises(CatalogMoving):
        await count_up(catalog)
    catalog.gate.reopen()
    await catalog.close()
    assert not await count_up(catalog)


async def test_not_under_a_lease(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path)
    fenced = FencedCatalog(catalog)
    lease: Lease | None = await Leases(catalog, SystemClock(), holder=b"me").acquire(b"job", 60)
    assert lease is not None
    with fenced_by(lease):
        assert not await fenced.transact_known((A,), lambda _: {A: b"1"})
    assert await fenced.transact_known((A,), lambda _: {A: b"2"})
    assert await get(catalog, A) == b"2"
    await catalog.close()


async def test_a_batch_waits_for_as_many_as_the_one_before_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = await LmdbCatalog.open(tmp_path)
    await asyncio.gather(*(put(catalog, (bytes([16, number]), b"")) for number in range(3)))
    begun = catalog.known_sequence
    monkeypatch.setattr(writer, "_PATIENCE", 60.0)
    first = asyncio.create_task(put(catalog, (A, b"1")))
    await asyncio.sleep(0.05)
    assert not first.done()
    second = asyncio.create_task(put(catalog, (B, b"1")))
    await asyncio.sleep(0)
    await asyncio.gather(put(catalog, (C, b"1")), first, second)
    assert catalog.known_sequence == begun + 1
    assert len(await scan(catalog, b"\x10", b"\x11")) >= 3
    await catalog.close()


async def test_a_batch_does_not_wait_for_ever(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path)
    await asyncio.gather(*(put(catalog, (bytes([16, number]), b"")) for number in range(9)))
    begun = catalog.known_sequence
    for number in range(3):
        await asyncio.wait_for(put(catalog, (A, bytes([number]))), 5)
    assert catalog.known_sequence == begun + 3
    await asyncio.gather(*(put(catalog, (bytes([16, number]), b"1")) for number in range(9)))
    last = asyncio.create_task(put(catalog, (B, b"9")))
    await asyncio.sleep(0)
    await catalog.close()  # writes what waits
    await last


async def test_a_batch_that_nobody_can_join_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = await LmdbCatalog.open(tmp_path, max_pending_rows=2)
    await asyncio.gather(*(put(catalog, (bytes([16, number]), b"")) for number in range(2)))
    monkeypatch.setattr(writer, "_PATIENCE", 60.0)
    await asyncio.wait_for(put(catalog, (A, b"1"), (B, b"1"), (C, b"1")), 5)
    assert await get(catalog, C) == b"1"
    await catalog.close()
