"""The LMDB engine against the suite that every engine passes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from catalog.lmdb_engine.catalog import LmdbCatalog
from tests.catalog.conformance import CatalogConformance


class TestLmdb(CatalogConformance):
    @pytest.fixture
    async def catalog(self, tmp_path: Path) -> AsyncIterator[LmdbCatalog]:
        catalog = await LmdbCatalog.open(tmp_path / "catalog")
        yield catalog
        await catalog.close()
