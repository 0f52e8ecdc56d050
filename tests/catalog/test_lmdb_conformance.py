"""The LMDB engine against the suite that every engine passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from catalog.lmdb_engine.catalog import LmdbCatalog
from tests.catalog.conformance import A, B, C, CatalogConformance, put


class TestLmdb(CatalogConformance):
    @pytest.fixture
    async def catalog(self, tmp_path: Path) -> AsyncIterator[LmdbCatalog]:
        catalog = await LmdbCatalog.open(tmp_path / "catalog")
        yield catalog
        await catalog.close()

    async def test_a_glance_shows_what_a_read_shows(self, catalog: LmdbCatalog) -> None:
        pending = asyncio.create_task(put(catalog, (A, b"1"), (B, b"2")))
        assert catalog.glance((A, B)) == [None, None]
        await pending
        assert catalog.glance((B, C, A, A)) == [b"2", None, b"1", b"1"]
        pending = asyncio.create_task(put(catalog, (A, b"3")))
        await asyncio.sleep(0)
        assert catalog.glance((A,)) == [b"1"]  # what is not durable yet is not shown
        await pending
        assert catalog.glance((A,)) == [b"3"]
        await catalog.close()
        assert catalog.glance((A,)) is None
