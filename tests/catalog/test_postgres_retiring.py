"""A catalog in PostgreSQL that is moved away: it takes no commit of anybody, or nothing has happened at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from catalog.copying.marks import MOVED_KEY, MOVED_ROW, MovedRow, read_marks
from catalog.errors import CatalogMoving, CatalogUnavailable, CommitUnknown
from catalog.interface import Row
from catalog.postgres_engine.catalog import PostgresCatalog
from catalog.postgres_engine.connections import Connector
from catalog.postgres_engine.database import Backoff
from catalog.postgres_engine.retiring import forbid_commits
from catalog.prefixes import EPOCH
from tests.catalog.conformance import A, B, get, put, remove
from tests.catalog.waiting import eventually
from tests.harness.cutting_proxy import CuttingProxy, cutting_proxy
from tests.harness.postgres_server import PostgresServer

MARK: Row = (MOVED_KEY, MOVED_ROW.encode(MovedRow(target="elsewhere", time_us=1)))
CONSTRAINTS = "SELECT count(*) FROM pg_constraint WHERE conname = 'atoll_moved'"


@pytest.fixture
async def proxy(postgres: PostgresServer) -> AsyncIterator[CuttingProxy]:
    async with cutting_proxy(postgres.port) as made:
        yield made


@pytest.fixture
async def catalog(postgres_url: str) -> AsyncIterator[PostgresCatalog]:
    made = await PostgresCatalog.open(postgres_url)
    yield made
    await made.close()


async def retire(catalog: PostgresCatalog, *unchanged: Row) -> bool:
    return await catalog.retire(MARK, sequence=await catalog.sequence(), unchanged=unchanged)


async def retired(catalog: PostgresCatalog, postgres: PostgresServer, url: str) -> bool:
    """Whether it says so and refuses commits: both or neither."""
    moved, _ = await catalog.read(read_marks)
    constraints = await postgres.value(url.rpartition("/")[2], CONSTRAINTS)
    assert constraints == (2 if moved else 0)
    return moved is not None


async def test_no_commit_of_any_process_gets_through(catalog: PostgresCatalog, postgres_url: str) -> None:
    other = await PostgresCatalog.open(postgres_url)
    try:
        await put(other, (A, b"1"))
        await put(other, (EPOCH + b"a", b"living"))
        assert await retire(catalog, (EPOCH + b"a", b"living"))
        for writes in (put(other, (A, b"2")), put(other, (B, b"new")), remove(other, A), remove(other, EPOCH + b"a")):
            with pytest.raises(CatalogMoving):
                await writes
        assert await get(other, A) == b"1"
        await catalog.unretire()
        await put(other, (A, b"3"))
        assert await get(catalog, A) == b"3"
    finally:
        await other.close()


async def test_nothing_happens_where_somebody_committed_meanwhile(
    catalog: PostgresCatalog, postgres: PostgresServer, postgres_url: str
) -> None:
    await put(catalog, (A, b"1"), (EPOCH + b"a", b"living"))
    before = await catalog.sequence()
    other = await PostgresCatalog.open(postgres_url)
    try:
        await put(other, (B, b"2"))
        assert not await catalog.retire(MARK, sequence=before, unchanged=())
        assert not await retire(catalog, (EPOCH + b"a", b"dead"))
        assert not await retired(catalog, postgres, postgres_url)
        await put(catalog, (A, b"3"))
    finally:
        await other.close()


class Distant:
    """Retires through a proxy that nothing else goes through, so that bytes can be counted."""

    def __init__(self, catalog: PostgresCatalog, proxy: CuttingProxy, url: str) -> None:
        self._catalog, self._proxy = catalog, proxy
        self._connector = Connector(url, connect_timeout=10, statement_timeout=15)

    async def retire(self, patience: float, **cut: int) -> bool:
        """With one cut, after so many bytes. The catalog is as before afterwards."""
        sequence = await self._catalog.sequence()
        self._proxy.cut_after(**cut)
        try:
            return await forbid_commits(
                self._connector, MARK, sequence=sequence, unchanged=((A, b"1"),), backoff=Backoff(patience)
            )
        finally:
            self._proxy.cut_after()

    async def undo(self) -> None:
        await self._catalog.unretire()
        await remove(self._catalog, MARK[0])

    async def length(self) -> int:
        """How many bytes of the server's an attempt takes in all."""
        low, high = 0, 8192
        while low < high:
            middle = (low + high) // 2
            before = self._proxy.cuts
            await self.retire(15, received=middle)
            await self.undo()
            low, high = (middle + 1, high) if self._proxy.cuts > before else (low, middle)
        return low


@pytest.fixture
def distant(catalog: PostgresCatalog, postgres: PostgresServer, postgres_url: str, proxy: CuttingProxy) -> Distant:
    return Distant(catalog, proxy, postgres.url(postgres_url.rpartition("/")[2], port=proxy.port))


async def test_after_a_cut_whether_it_happened_is_found_out(
    catalog: PostgresCatalog, postgres: PostgresServer, postgres_url: str, proxy: CuttingProxy, distant: Distant
) -> None:
    await put(catalog, (A, b"1"))
    length = await distant.length()
    before = proxy.cuts
    points = [*range(0, length, length // 8), *range(length - 40, length, 4)]
    for point in points:
        assert await distant.retire(15, received=point)
        assert await retired(catalog, postgres, postgres_url)
        await distant.undo()
    assert proxy.cuts >= before + len(points)


async def test_it_is_unknown_only_after_the_commit_was_sent(
    catalog: PostgresCatalog, postgres: PostgresServer, postgres_url: str, distant: Distant
) -> None:
    """One attempt only: before COMMIT was sent nothing has happened, and that is said."""
    await put(catalog, (A, b"1"))
    length = await distant.length()
    told = []
    for point in [*range(length // 2, length - 40, 40), *range(length - 40, length, 4)]:
        try:
            await distant.retire(0, received=point)
        except CommitUnknown:
            told.append("unknown")
        except CatalogUnavailable:
            told.append("not")
            assert not await retired(catalog, postgres, postgres_url)
        await distant.undo()
    assert told == sorted(told)
    assert told.count("not") > len(told) / 2
    assert told[-1] == "unknown"


async def test_long_reads_hold_it_back_but_nobody_else(
    catalog: PostgresCatalog, postgres: PostgresServer, postgres_url: str
) -> None:
    """It waits for a backup's transaction, and lets others read in between."""
    await put(catalog, (A, b"1"))
    sequence = await catalog.sequence()
    async with catalog.view() as view:
        assert await view.get(A) == b"1"
        retiring = asyncio.create_task(catalog.retire(MARK, sequence=sequence, unchanged=()))
        await eventually(lambda: somebody_waits(postgres, postgres_url))
        for _ in range(3):
            assert await get(catalog, A) == b"1"
        assert not retiring.done()
    assert await retiring
    assert await retired(catalog, postgres, postgres_url)


async def somebody_waits(postgres: PostgresServer, url: str) -> bool:
    """Whether a statement waits for a lock."""
    found = await postgres.value(url.rpartition("/")[2], "SELECT count(*) FROM pg_locks WHERE NOT granted")
    return bool(found)
