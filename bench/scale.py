"""What a catalog of many objects costs: a page of a listing, head, put and delete among 10,000 and among 1,000,000
objects of one bucket, seconds until a gateway on it is ready, and the catalog's bytes per object. On both engines.

A gateway in this process is filled through its object store, which is what HTTP would reach. Costs are CPU time of this
process and of the database together, because that hardly depends on what else the machine does; wall time is shown
beside. Snapshots are off while costs are measured, and on when readiness is. Floors: 2 x, and 3 s.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.processes import family_cpu
from catalog.lmdb_engine.catalog import LmdbCatalog
from core.config import Secret
from core.memory import keep_freed_memory
from engine.types import Bucket, ObjectAttributes, Outcome
from gateway.wiring.build import Gateway
from gateway.wiring.settings import CatalogSettings, Settings, SnapshotSettings
from tests.harness.live_server import ROOT_KEY_ID, ROOT_SECRET, LiveServer
from tests.harness.postgres_server import PostgresServer

FEW = 10_000
BODY = 100
CLIENTS = 64  # of the filling
ROUNDS = 7
EACH = 1_000  # operations in a round, of 16 clients; pages: a twentieth
FLOOR_RATIO, FLOOR_READY = 2.0, 3.0
_OUTCOME = Outcome(hashlib.md5(b"x" * BODY, usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one operation, in microseconds."""

    cpu: float
    wall: float


def key_of(number: int) -> str:
    """Keys in 1,000 folders, in no order that the catalog could profit from."""
    spread = hashlib.blake2b(number.to_bytes(8, "big"), digest_size=6).hexdigest()
    return f"{int(spread[:4], 16) % 1000:03d}/photo-{spread}-{number:08d}.jpg"


class Measured:
    """One bucket of a running gateway."""

    def __init__(self, gateway: Gateway, bucket: Bucket, postgres: PostgresServer | None) -> None:
        self._store, self._bucket, self._postgres = gateway.store, bucket, postgres
        self._attributes = ObjectAttributes(owner=gateway.deployment.row.root_user)
        self._random = random.Random(1)
        self._fresh = 1 << 30
        self.count = 0

    async def put(self, number: int) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"x" * BODY

        await self._store.put_object(
            self._bucket, key_of(number), body(), attributes=self._attributes, finish=lambda _: _OUTCOME
        )

    async def fill(self, until: int) -> None:
        """Add objects until there are so many."""
        began, first = time.monotonic(), self.count
        await spread(iter(range(first, until)), self.put, CLIENTS)
        self.count = until
        rate = (until - first) / (time.monotonic() - began)
        print(f"  filled to {until:,} objects at {rate:,.0f} puts/s", flush=True)

    async def costs(self) -> dict[str, Cost]:
        """Each operation's, the median of some rounds."""
        found: dict[str, Cost] = {}
        found["listing a page"] = await self._rounds(self._page, EACH // 20)
        found["head"] = await self._rounds(self._head, EACH)
        puts, self._fresh = self._fresh, self._fresh + (ROUNDS + 1) * EACH
        fresh = iter(range(puts, self._fresh))
        found["put"] = await self._rounds(lambda: self.put(next(fresh)), EACH)
        gone = iter(self._random.sample(range(puts, self._fresh), (ROUNDS + 1) * EACH))
        found["delete"] = await self._rounds(lambda: self._delete(next(gone)), EACH)
        return found

    async def _rounds(self, operation: Callable[[], Awaitable[None]], each: int) -> Cost:
        async def one(_: int) -> None:
            await operation()

        costs = []
        for number in range(ROUNDS + 1):
            wall, cpu = time.monotonic(), self._cpu()
            await spread(iter(range(each)), one, 16)
            if number:  # the first one warms up
                costs.append(((self._cpu() - cpu) / each * 1e6, (time.monotonic() - wall) / each * 1e6))
        return Cost(statistics.median(cpu for cpu, _ in costs), statistics.median(wall for _, wall in costs))

    async def _page(self) -> None:
        after = key_of(self._random.randrange(self.count))
        await self._store.list_objects(self._bucket, prefix="", delimiter="", after=after, limit=1000)

    async def _head(self) -> None:
        await self._store.head_object(self._bucket, key_of(self._random.randrange(self.count)))

    async def _delete(self, number: int) -> None:
        await self._store.delete_object(self._bucket, key_of(number), owner=self._attributes.owner)

    def _cpu(self) -> float:
        return time.process_time() + (0.0 if self._postgres is None else family_cpu(self._postgres.pid))


async def spread(numbers: Iterator[int], operation: Callable[[int], Awaitable[None]], clients: int) -> None:
    """Run an operation for each number, so many at a time."""

    async def client() -> None:
        for number in numbers:
            await operation(number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(client())


async def fill_and_measure(settings: Settings, count: int, postgres: PostgresServer | None) -> tuple[bool, float]:
    """Whether all ratios keep to the floor, and the catalog's bytes."""
    gateway = Gateway(settings)
    try:
        await gateway.start(may_create=True)
        owner = gateway.deployment.row.root_user
        measured = Measured(gateway, await gateway.store.create_bucket("scale", owner=owner), postgres)
        await measured.fill(FEW)
        few = await measured.costs()
        await measured.fill(count)
        many = await measured.costs()
        good = True
        for name, cost in many.items():
            ratio = cost.cpu / few[name].cpu
            good = good and ratio <= FLOOR_RATIO
            print(
                f"  {name:15} {few[name].cpu:9,.0f} -> {cost.cpu:9,.0f} µs of CPU: {ratio:5.2f} x   (wall "
                f"{few[name].wall:,.0f} -> {cost.wall:,.0f} µs)",
                flush=True,
            )
        size = await catalog_bytes(gateway, postgres)
    finally:
        await gateway.close()
    return good, size


async def catalog_bytes(gateway: Gateway, postgres: PostgresServer | None) -> float:
    """What the catalog takes of the disk once what was needed for the filling alone is gone."""
    await asyncio.sleep(12)  # the change feed is kept for 10 s
    await gateway.runner.run("feed-trim")
    if isinstance(gateway.catalog, LmdbCatalog):
        loose = gateway.catalog.file_bytes()
        await gateway.catalog.repack()
        print(f"  the file had {loose:,} bytes before it was rewritten densely", flush=True)
        return gateway.catalog.file_bytes()
    assert postgres is not None
    await postgres.execute("scale", "VACUUM")
    size: int = await postgres.value("scale", "SELECT pg_database_size('scale')")
    return float(size)


def seconds_until_ready(folder: Path, environment: dict[str, str]) -> float:
    """A new process on the filled catalog, the slowest of three: after an orderly end, and twice after kill -9."""
    server, slowest = LiveServer(folder, env=environment), 0.0
    for _ in range(3):
        began = time.monotonic()
        server.start(timeout=120)
        slowest = max(slowest, time.monotonic() - began)
        client = server.client()
        assert len(client.list_objects_v2(Bucket="scale").get("Contents", [])) == 1000
        server.kill()
    return slowest


def measure(engine: str, count: int, folder: Path) -> bool:
    """All figures of one engine; whether they keep to the floors."""
    print(f"{engine}:", flush=True)
    postgres = PostgresServer(durable=True) if engine == "postgres" else None
    try:
        url = ""
        if postgres is not None:
            postgres.start()
            asyncio.run(postgres.execute("postgres", "CREATE DATABASE scale"))
            url = postgres.url("scale")
        settings = Settings(
            data=folder / "data",
            listen="127.0.0.1:0",
            access_key_id=ROOT_KEY_ID,
            secret_access_key=Secret(ROOT_SECRET),
            root_key_file=folder / "root.key",
            catalog=CatalogSettings(url=Secret(url)),
            snapshots=SnapshotSettings(every=0.0),
            processes=1,
        )
        settings.data.mkdir(parents=True)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            good, size = runner.run(fill_and_measure(settings, count, postgres))
        print(f"  {size / count:,.0f} bytes of catalog per object ({size:,.0f} in all)", flush=True)
        ready = seconds_until_ready(folder, {"ATOLL_CATALOG": url} if url else {})
        print(f"  ready in {ready:.2f} s", flush=True)
        return good and ready < FLOOR_READY
    finally:
        if postgres is not None:
            postgres.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="What a catalog of many objects costs.")
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--engine", choices=("lmdb", "postgres"), action="append")
    chosen = parser.parse_args()
    keep_freed_memory()
    base = Path(__file__).resolve().parents[1] / "data"
    base.mkdir(exist_ok=True)
    good = True
    for engine in chosen.engine or ("lmdb", "postgres"):
        folder = Path(tempfile.mkdtemp(prefix="scale-", dir=base))
        try:
            good = measure(engine, chosen.objects, folder) and good
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(0 if good else "a figure misses its floor")


if __name__ == "__main__":
    main()
