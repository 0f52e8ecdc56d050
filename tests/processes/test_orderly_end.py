"""A server that ends in order leaves nothing in the catalog that waits for its pack; one that is killed may."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from catalog.interface import Reader
from catalog.lmdb_engine.catalog import LmdbCatalog
from engine.layout_data import DRAFT, PACK, STAGED, prefix_end
from tests.processes.family import Family

BODY = os.urandom(10_240)
KEYS = 60


async def _counted(folder: Path) -> dict[str, int]:
    catalog = await LmdbCatalog.open(folder)

    async def count(reader: Reader) -> dict[str, int]:
        kinds = {"draft": DRAFT, "staged": STAGED, "pack": PACK}
        return {
            name: len(await reader.scan(prefix, prefix_end(prefix), limit=10_000, keys_only=True))
            for name, prefix in kinds.items()
        }

    try:
        return await catalog.read(count)
    finally:
        await catalog.close()


def _write(family: Family) -> None:
    """Small objects by way of every process, so many that connections do not move."""
    clients = [family.client() for _ in range(3)]
    clients[0].create_bucket(Bucket="bucket")
    for number in range(KEYS):
        clients[number % 3].put_object(Bucket="bucket", Key=str(number), Body=BODY)
    for client in clients:
        client.close()


@pytest.mark.parametrize("orderly", [True, False])
def test_what_an_end_leaves_staged(tmp_path: Path, orderly: bool) -> None:
    family = Family(tmp_path, count=2)
    try:
        family.start()
        family.wait_until_whole()
        _write(family)
        if orderly:
            family.stop()
            left = asyncio.run(_counted(family.data / "catalog"))
            assert left["staged"] == 0
            assert left["pack"] >= 1
            family.start()
        else:
            family.kill()
            assert asyncio.run(_counted(family.data / "catalog"))["staged"] > 0
            family.start()
        client = family.client()
        for number in range(KEYS):
            assert client.get_object(Bucket="bucket", Key=str(number))["Body"].read() == BODY
        family.stop()
        left = asyncio.run(_counted(family.data / "catalog"))
        assert left["staged"] == 0
        assert left["draft"] <= 2 * 2  # those that stood open
    finally:
        family.kill()
