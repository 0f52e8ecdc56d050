"""The PostgreSQL engine against the suite that every engine passes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from catalog.postgres_engine.catalog import PostgresCatalog
from tests.catalog.conformance import CatalogConformance


class TestPostgres(CatalogConformance):
    @pytest.fixture
    async def catalog(self, postgres_url: str) -> AsyncIterator[PostgresCatalog]:
        catalog = await PostgresCatalog.open(postgres_url)
        yield catalog
        await catalog.close()
