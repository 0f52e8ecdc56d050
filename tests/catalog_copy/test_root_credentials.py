"""The root user's access key stays the same when its catalog moves, and can be made anew where it lies in a file."""

from __future__ import annotations

from pathlib import Path

from accounts.types import AccessKey
from catalog.interface import Catalog
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.postgres_engine.catalog import PostgresCatalog
from engine.keyring import LocalKeyWrapper
from gateway.wiring.credentials import NAME, RootCredentials, root_credentials
from gateway.wiring.settings import Settings

WRAPPER = LocalKeyWrapper(b"s" * 32)


async def start(catalog: Catalog, folder: Path) -> RootCredentials:
    """What a gateway with this data folder finds."""
    found = await root_credentials(Settings(data=folder), catalog, WRAPPER, 1)
    return RootCredentials(AccessKey(found.key.id, found.key.secret), found.fresh)


async def moved(source: Catalog, target: Catalog) -> None:
    async for rows in source.export():
        await target.load(rows, sequence=await source.sequence())


async def test_there_and_back(tmp_path: Path, postgres_url: str) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    embedded = await LmdbCatalog.open(one / "catalog")
    networked = await PostgresCatalog.open(postgres_url)
    back = await LmdbCatalog.open(other / "catalog")
    try:
        first = await start(embedded, one)
        assert first.fresh
        await moved(embedded, networked)
        assert await start(networked, one) == RootCredentials(first.key)
        assert await start(networked, other) == RootCredentials(first.key)
        await moved(networked, back)
        assert await start(back, other) == RootCredentials(first.key)
        assert (other / NAME).stat().st_mode & 0o777 == 0o600
        assert await start(back, other) == RootCredentials(first.key)
        (other / NAME).unlink()
        made = await start(back, other)
        assert made.fresh, "whoever removes the file wants another pair, not the one that the database kept"
        assert made.key != first.key
        assert await start(back, other) == RootCredentials(made.key)
    finally:
        await embedded.close()
        await networked.close()
        await back.close()


async def test_a_move_carries_it_wherever_the_next_gateway_starts(tmp_path: Path, postgres_url: str) -> None:
    embedded = await LmdbCatalog.open(tmp_path / "catalog")
    networked = await PostgresCatalog.open(postgres_url)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    try:
        await start(embedded, tmp_path)
        (tmp_path / NAME).unlink()
        key = await start(embedded, tmp_path)
        assert key.fresh
        await moved(embedded, networked)
        assert await start(networked, elsewhere) == RootCredentials(key.key)
        assert await start(networked, tmp_path) == RootCredentials(key.key)
    finally:
        await embedded.close()
        await networked.close()


async def test_what_the_database_had_last_wins_over_a_file_of_before(tmp_path: Path, postgres_url: str) -> None:
    """A database with a key of its own, then a data folder that has an older one's file."""
    embedded = await LmdbCatalog.open(tmp_path / "catalog")
    networked = await PostgresCatalog.open(postgres_url)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    try:
        old: AccessKey = (await start(embedded, tmp_path)).key
        current = (await start(networked, elsewhere)).key  # of a gateway that knows nothing of the file
        assert current != old
        await moved(networked, embedded)
        assert (await start(embedded, tmp_path)).key == current
        assert (await start(embedded, tmp_path)).key == current
    finally:
        await embedded.close()
        await networked.close()
