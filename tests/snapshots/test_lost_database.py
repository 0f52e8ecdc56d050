"""Gateways that share a catalog in PostgreSQL make its snapshots in turn; a lost database is made again from them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog.postgres_engine.catalog import PostgresCatalog
from gateway.admin.client import AdminClient
from tests.harness.gateways import Cluster, GatewayProcess
from tests.harness.live_server import LiveServer
from tests.harness.postgres_server import PostgresServer
from tests.snapshots.waiting import wait_for, wait_for_snapshot
from tests.snapshots.world import SnapshotWorld

BUCKET = "bucket"
OFTEN = {"ATOLL_SNAPSHOTS_EVERY": "500ms"}
SIZES = (0, 700, 20_000, 3_000_000)


@pytest.fixture
def cluster(postgres: PostgresServer, tmp_path: Path) -> Iterator[Cluster]:
    name = asyncio.run(postgres.new_database())
    made = Cluster(tmp_path, postgres, name, count=0)
    made.gateways += [made.new_gateway(f"gateway-{number}", env=OFTEN) for number in (1, 2)]
    try:
        made.start()
        made.gateways[0].client().create_bucket(Bucket=BUCKET)
        yield made
    finally:
        made.kill()
        with contextlib.suppress(Exception):  # the test has dropped it
            asyncio.run(postgres.drop_database(name))


def put(server: LiveServer, prefix: str) -> dict[str, bytes]:
    client = server.client()
    bodies = {f"{prefix}/{number}": bytes([number]) * SIZES[number % len(SIZES)] for number in range(12)}
    for key, body in bodies.items():
        client.put_object(Bucket=BUCKET, Key=key, Body=body)
    return bodies


def verify(server: LiveServer, bodies: dict[str, bytes]) -> None:
    client = server.client()
    for key, body in bodies.items():
        assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body, key


def makes_snapshots(gateway: GatewayProcess) -> bool:
    workers = AdminClient(gateway.data).call("GET", "/status")["workers"]
    (progress,) = [worker["progress"] for worker in workers if worker["name"] == "snapshots"]
    return bool(progress != "left to another gateway")


@pytest.mark.timeout(300)
def test_a_lost_database_is_back_from_the_nodes(cluster: Cluster, postgres: PostgresServer, tmp_path: Path) -> None:
    bodies = {key: body for gateway in cluster.gateways for key, body in put(gateway, gateway.folder.name).items()}
    wait_for_snapshot(cluster.gateways[0])
    (busy,) = [gateway for gateway in cluster.gateways if makes_snapshots(gateway)]
    (other,) = [gateway for gateway in cluster.gateways if gateway is not busy]
    before = wait_for(other, lambda shown: shown["exists"])["sequence"]
    busy.kill()
    bodies |= put(other, "later")
    wait_for(other, lambda shown: shown["sequence"] > before and not shown["lag_seconds"])
    assert makes_snapshots(other)
    cluster.kill()
    asyncio.run(postgres.drop_database(cluster.database))

    folder = LiveServer(tmp_path / "folder", env={**OFTEN, "ATOLL_ROOT_KEY_FILE": str(tmp_path / "root.key")})
    named = [part for node in cluster.nodes for part in ("--node", str(node))]
    refused = folder.command("restore", *named, "--root-key", str(tmp_path / "root.key"), "--config", _database(folder))
    assert refused.returncode == 3
    assert "restore into a data folder, then copy it there" in refused.stderr
    restored = folder.command("restore", *named, "--root-key", str(tmp_path / "root.key"))
    assert restored.returncode == 0, restored.stderr
    folder.start()
    new = asyncio.run(postgres.new_database())
    try:
        verify(folder, bodies)
        moved = folder.command("catalog", "copy", "--to", postgres.url(new), "--switch")
        assert moved.returncode == 0, moved.stderr
        folder.wait()
        again = Cluster(tmp_path, postgres, new, count=0)
        again.gateways += [again.new_gateway(f"again-{number}", env=OFTEN) for number in (1, 2)]
        try:
            again.start()
            for gateway in again.gateways:
                verify(gateway, bodies)
            assert again.gateways[0].command("catalog", "accept").returncode == 0
            bodies |= put(again.gateways[1], "last")
            wait_for_snapshot(again.gateways[0])
            assert again.gateways[0].command("check").returncode == 0
        finally:
            again.kill()
    finally:
        folder.kill()
        asyncio.run(postgres.drop_database(new))


def _database(server: LiveServer) -> str:
    """A configuration that names one."""
    path = server.folder / "database.toml"
    path.write_text('[catalog]\nurl = "postgresql://nobody@127.0.0.1:1/none"\n')
    return str(path)


async def test_every_point_of_a_shared_catalog_restores_exactly(postgres_url: str, tmp_path: Path) -> None:
    catalog = await PostgresCatalog.open(postgres_url)
    try:
        world = await SnapshotWorld(catalog).open()
        for number in range(4):
            await world.change(200)
            if number % 2:  # some while a base is written
                await world.worker.turn()
                await world.change(50)
            await world.settle()
            told, rows = await world.restore(tmp_path / f"restored-{number}")
            assert rows == world.rows
            assert told.warnings == []
    finally:
        await catalog.close()


async def test_commits_that_have_no_number_yet_are_in_the_point(postgres_url: str, tmp_path: Path) -> None:
    """Two gateways write at the same time; each point holds all that its view shows, numbered or not."""
    one, other = await PostgresCatalog.open(postgres_url), await PostgresCatalog.open(postgres_url)
    try:
        world = await SnapshotWorld(one).open()
        writer = SnapshotWorld(other, seed=1)
        stop = asyncio.Event()

        async def write() -> None:
            while not stop.is_set():
                await writer.change(5)

        writing = asyncio.create_task(write())
        for _ in range(12):
            world.worker.hasten()
            await world.worker.turn()
        stop.set()
        await writing
        await world.settle()
        _, rows = await world.restore(tmp_path / "restored")
        assert rows == writer.rows
    finally:
        await one.close()
        await other.close()
