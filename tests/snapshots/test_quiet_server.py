"""Snapshots of a server that nobody writes to any more become small by themselves; a restore misses nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.harness.live_server import LiveServer
from tests.snapshots.waiting import wait_for, wait_for_snapshot


def on_nodes(server: LiveServer) -> int:
    """Bytes of all snapshots."""
    return sum(piece.stat().st_size for piece in server.nodes.rglob("f" + "?" * 48) if piece.is_file())


def test_a_small_store_at_rest(tmp_path: Path) -> None:
    server = LiveServer(tmp_path, env={"ATOLL_SNAPSHOTS_EVERY": "200ms"}).start()
    try:
        client = server.client()
        client.create_bucket(Bucket="small")
        bodies = {f"{number:03d}": os.urandom(60_000) for number in range(200)}
        for key, body in bodies.items():
            client.put_object(Bucket="small", Key=key, Body=body)
        wait_for_snapshot(server)
        assert on_nodes(server) > 3_000_000, "bodies that waited for their pack are in it"
        wait_for(server, lambda shown: shown["bytes"] < 1_000_000 and on_nodes(server) < 1_000_000)
    finally:
        server.kill()
    shutil.rmtree(server.data / "catalog")
    restored = server.command("restore", "--root-key", str(server.folder / "root.key"))
    assert restored.returncode == 0, restored.stderr
    server.start()
    try:
        client = server.client()
        for key, body in bodies.items():
            assert client.get_object(Bucket="small", Key=key)["Body"].read() == body
    finally:
        server.kill()
