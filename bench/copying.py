"""How long a catalog takes to be copied and moved to the other engine, and for how long writes wait in the end.

Rows as the object store writes them: under random keys, 50 to 400 bytes. Both catalogs are in this process, beside a
client that goes on writing; PostgreSQL is a server of its own on the same machine, with synced commits.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from catalog.copying.movable import Movable
from catalog.copying.moving import Move, claim
from catalog.errors import CatalogMoving
from catalog.interface import Catalog, Row, Transaction
from catalog.keys import u64
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.postgres_engine.catalog import PostgresCatalog
from catalog.prefixes import ENGINE
from core.clock import SystemClock
from tests.harness.postgres_server import PostgresServer

_BATCH = 5_000


async def fill(catalog: Catalog, count: int) -> None:
    """So many rows of bodies, heads and listings."""
    chance = random.Random(1)
    for _ in range(0, count, _BATCH):
        rows: list[Row] = [
            (ENGINE + chance.randbytes(32), chance.randbytes(chance.randrange(50, 400))) for _ in range(_BATCH)
        ]
        await catalog.load(rows, sequence=1)


def anonymous() -> int:
    """KiB of this process's memory that are not the files' own pages."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0])


class Client:
    """Writes a row every few milliseconds until it is refused, notes when that was, and how much memory was in use."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.written = 0
        self.refused = 0.0
        self._before = anonymous()
        self.memory = 0  # KiB that this process had at most, beyond what it had before

    async def run(self) -> None:
        with suppress(CatalogMoving):
            while True:
                await self._catalog.transact(self._write)
                self.written += 1
                self.memory = max(self.memory, anonymous() - self._before)
                await asyncio.sleep(0.005)
        self.refused = time.perf_counter()

    async def _write(self, txn: Transaction) -> None:
        txn.put(ENGINE + b"client" + u64(self.written % 1000), b"x" * 200)


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


async def nobody_else() -> None:
    """This process is the only one."""


async def measure(name: str, source: Movable, target: Catalog, count: int) -> None:
    async def move(*, switch: bool) -> Move:
        made = Move(
            source, target, mark=await claim(target, b"d" * 16), consumer=u64(1), place="elsewhere",
            clock=SystemClock(), alone=nobody_else,
        )  # fmt: skip
        await made.run(switch=switch)
        return made

    client = Client(source)
    writing = asyncio.create_task(client.run())
    first = await timed(lambda: move(switch=False))
    again = await timed(lambda: move(switch=False))
    switch = await timed(lambda: move(switch=True))
    ended = time.perf_counter()
    await writing
    shut = (ended - client.refused) * 1000
    print(
        f"{name}, {count:,} rows: copied and compared in {first:.1f} s ({count / first:,.0f} rows/s), again in "
        f"{again:.1f} s, moved in {switch:.1f} s, the last {shut:.0f} ms of it without writes; {client.written} writes "
        f"meanwhile; memory grew by {client.memory / 1024:.0f} MiB at most",
        flush=True,
    )


async def run(count: int, folder: Path, postgres: PostgresServer) -> None:
    embedded = await LmdbCatalog.open(folder / "first")
    networked = await PostgresCatalog.open(postgres.url(await postgres.new_database()))
    back = await LmdbCatalog.open(folder / "back")
    try:
        await fill(embedded, count)
        await measure("LMDB to PostgreSQL", embedded, networked, count)
        await measure("PostgreSQL to LMDB", networked, back, count)
    finally:
        await embedded.close()
        await networked.close()
        await back.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    count = parser.parse_args().rows
    base = Path(__file__).resolve().parents[1] / "data"
    base.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="copying-", dir=base))
    postgres = PostgresServer(durable=True)
    try:
        postgres.start()
        asyncio.run(run(count, folder, postgres))
    finally:
        postgres.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
