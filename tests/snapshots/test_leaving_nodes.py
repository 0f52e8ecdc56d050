"""Nodes that are emptied and go take no snapshot with them that a restore would need."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from backends.memory import MemoryBackend
from catalog.memory import MemoryCatalog
from engine.ports import Node
from engine.snapshots.vacating import Vacating
from engine.snapshots.worker import SnapshotLimits
from gateway.admin.client import AdminClient
from tests.harness.live_server import LiveServer
from tests.snapshots.world import ROOT, SnapshotWorld, keys_of


def held(world: SnapshotWorld, node: Node) -> set[int]:
    """Chains that a node holds something of."""
    backend = node.backend
    assert isinstance(backend, MemoryBackend)
    names = (keys_of(ROOT).read_name(text) for text in backend._pieces)
    return {name.chain for name in names if name is not None}


async def test_a_leaving_node_is_vacant_once_a_chain_without_it_took_over(tmp_path: Path) -> None:
    world = await SnapshotWorld(MemoryCatalog(), limits=SnapshotLimits(every=0.0, retention=1000.0)).open()
    vacated = Vacating(world.catalog, world.worker.writer, lambda: keys_of(world.root))
    for _ in range(4):
        await world.change()
        await world.settle()
    first = (await world.state()).active
    assert first is not None
    leaving = world.nodes[:3]
    assert any(held(world, node) for node in leaving)
    assert not all([await vacated(node) for node in leaving])
    assert await world.restore(tmp_path / "unharmed"), "what is needed was deleted"
    for node in leaving:
        world.placer.set_leaving(node.id, True)
    await world.settle()  # no change, and not for long
    second = (await world.state()).active
    assert second is not None
    assert second.id > first.id
    for node in leaving:
        assert await vacated(node)
        assert held(world, node) == set()
        world.placer.remove(node.id)
    _, rows = await world.restore(tmp_path / "restored", without=(1, 2, 3))
    assert rows == world.rows
    for _ in range(3):
        await world.settle()
    assert (await world.state()).active == second, "one new base is enough"


async def test_nothing_is_vacated_before_there_is_a_snapshot() -> None:
    world = await SnapshotWorld(MemoryCatalog()).open()
    await world.change()
    vacated = Vacating(world.catalog, world.worker.writer, lambda: keys_of(world.root))
    await world.worker.turn()  # the base alone
    assert not any([await vacated(node) for node in world.nodes])


async def test_a_chain_under_the_former_root_key_is_kept_until_the_next_took_over() -> None:
    world = await SnapshotWorld(MemoryCatalog()).open()
    await world.change()
    await world.settle()
    holding = [node for node in world.nodes if held(world, node)][:3]
    world.root = bytes(range(1, 33))
    vacated = Vacating(world.catalog, world.worker.writer, lambda: keys_of(world.root))
    assert not any([await vacated(node) for node in holding])
    await world.settle()
    for node in holding:
        world.placer.set_leaving(node.id, True)
    await world.settle()
    for node in holding:
        assert await vacated(node)
        assert held(world, node) == set()


def test_a_server_whose_disks_are_exchanged_can_be_restored_at_any_time(tmp_path: Path) -> None:
    server = LiveServer(tmp_path / "machine", env={"ATOLL_SNAPSHOTS_EVERY": "500ms"}).start()
    try:
        client = server.client()
        client.create_bucket(Bucket="bucket")
        for number in range(8):  # points of their own, spread over all nodes
            client.put_object(Bucket="bucket", Key=f"{number}", Body=b"%d" % number * 3000)
            _wait(server, lambda shown: not shown["snapshots"]["lag_seconds"])
        for number in (7, 8, 9):
            assert server.command("node", "add", str(tmp_path / f"disk-{number}")).returncode == 0
        for number in (1, 2, 3):
            assert server.command("node", "remove", f"disk-{number}").returncode == 0
        _wait(server, lambda shown: len(shown["nodes"]) == 6)
    finally:
        server.kill()
    left = [server.nodes / str(number) for number in (4, 5, 6)] + [tmp_path / f"disk-{n}" for n in (7, 8, 9)]
    again = LiveServer(tmp_path / "again")
    named = [part for node in left for part in ("--node", str(node))]
    restored = again.command("restore", *named, "--root-key", str(server.folder / "root.key"))
    assert restored.returncode == 0, restored.stderr
    shutil.copy(server.folder / "root.key", again.folder / "root.key")
    again.start()
    try:
        for number in range(8):
            body = again.client().get_object(Bucket="bucket", Key=f"{number}")["Body"].read()
            assert body == b"%d" % number * 3000
    finally:
        again.kill()


def _wait(server: LiveServer, until: Any) -> None:
    admin, end = AdminClient(server.data), time.monotonic() + 150
    while not until(shown := admin.call("GET", "/status")):
        assert time.monotonic() < end, shown
        time.sleep(0.1)
