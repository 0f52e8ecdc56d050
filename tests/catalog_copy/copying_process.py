"""A process that does nothing but move a catalog, for tests that kill it: `python -m … SOURCE TARGET`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from catalog.copying.marks import require_unmarked
from catalog.copying.moving import Move, claim
from catalog.epochs import Epochs
from catalog.keys import u64
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.postgres_engine.address import is_address
from catalog.postgres_engine.catalog import PostgresCatalog
from core.clock import SystemClock

DEPLOYMENT = b"d" * 16


async def open_place(place: str) -> LmdbCatalog | PostgresCatalog:
    """The catalog in a folder or at an address."""
    return await (PostgresCatalog.open(place) if is_address(place) else LmdbCatalog.open(Path(place)))


async def alone() -> None:
    """Nobody else is there."""


async def move(source: str, target: str) -> None:
    """Move the catalog. Raises StartRefused where no process may use it."""
    one, other = await open_place(source), await open_place(target)
    try:
        epochs = await Epochs.register(one, SystemClock(), alone=False, check=require_unmarked)
        mark = await claim(other, DEPLOYMENT)
        moving = Move(
            one, other, mark=mark, consumer=u64(epochs.epoch), place="elsewhere", clock=SystemClock(), alone=alone
        )  # fmt: skip
        await moving.run(switch=True)
    finally:
        await one.close()
        await other.close()


if __name__ == "__main__":
    asyncio.run(move(*sys.argv[1:]))
