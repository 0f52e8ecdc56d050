"""The PostgreSQL engine against the suite that every engine passes."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import pytest

from catalog.interface import Change, Reader, Row, Transaction
from catalog.postgres_engine.catalog import PostgresCatalog
from tests.catalog.conformance import CatalogConformance

T = TypeVar("T")


class Spread:
    """Two gateways as one catalog: each call goes to either of them."""

    exclusive = False

    def __init__(self, gateways: Sequence[PostgresCatalog]) -> None:
        self._gateways = gateways
        self._random = random.Random(11)

    @property
    def known_sequence(self) -> int:
        return self._gateways[0].known_sequence

    async def read(self, function: Callable[[Reader], Awaitable[T]], *, long: bool = False) -> T:
        return await self._random.choice(self._gateways).read(function, long=long)

    async def transact(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self._random.choice(self._gateways).transact(function)

    async def sequence(self) -> int:
        return await self._gateways[0].sequence()

    async def changes(self, after: int, *, limit: int = 1000) -> list[Change]:
        await self.sequence()
        return await self._gateways[0].changes(after, limit=limit)

    async def wait_changes(self, after: int) -> int:
        return await self._gateways[0].wait_changes(after)

    def export(self, *, after: bytes = b"") -> AsyncGenerator[list[Row], None]:
        return self._gateways[1].export(after=after)

    async def load(self, rows: Sequence[Row], *, sequence: int) -> None:
        await self._gateways[1].load(rows, sequence=sequence)

    async def close(self) -> None:
        for gateway in self._gateways:
            await gateway.close()


class TestPostgres(CatalogConformance):
    @pytest.fixture
    async def catalog(self, postgres_url: str) -> AsyncIterator[PostgresCatalog]:
        catalog = await PostgresCatalog.open(postgres_url)
        yield catalog
        await catalog.close()


class TestTwoGateways(CatalogConformance):
    @pytest.fixture
    async def catalog(self, postgres_url: str) -> AsyncIterator[Spread]:
        catalog = Spread([await PostgresCatalog.open(postgres_url) for _ in range(2)])
        yield catalog
        await catalog.close()
