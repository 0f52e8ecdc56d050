"""`kill -9` under mixed load: what was acknowledged is there, what was not is wholly there or wholly absent."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from tests.harness.history import History, LoadGenerator, settle
from tests.harness.live_server import LiveServer

POINTS = (
    "pieces-written",
    "before-commit",
    "after-commit",
    "before-reply",
    "compaction-written",
    "compaction-swapped",
    "collection-deleting",
    "collection-deleted",
    "rotation-rewrapped",
)
BACKGROUND = {"compaction": "compaction", "collection": "collection"}


def provoke(server: LiveServer, point: str) -> None:
    """Make the background work that holds the crash point happen under the load."""
    kind = point.split("-")[0]
    if kind in BACKGROUND:
        server.command("worker", "run", BACKGROUND[kind], timeout=30)
    elif kind == "rotation":
        server.command("keys", "rotate", timeout=30)


def pieces(server: LiveServer) -> int:
    """Bytes of all files on the nodes but their markers."""
    return sum(
        path.stat().st_size
        for path in server.nodes.rglob("*")
        if path.is_file() and len(path.name) == 49 and path.name[16] == "-"
    )


def empty(server: LiveServer, bucket: str) -> None:
    """Remove every object and upload, then collect."""
    client = server.client()
    for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        keys = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
        if keys:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys})
    for worker in ("collection", "compaction", "collection"):
        done = server.command("worker", "run", worker)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(900)
@pytest.mark.parametrize("point", POINTS)
def test_crash_point(point: str, tmp_path: Path, hits: int) -> None:
    server = LiveServer(tmp_path)
    history = History()
    seeded = random.Random(point)
    server.start()
    server.client().create_bucket(Bucket="crash")
    server.stop()
    for _ in range(hits):
        background = point.split("-")[0] in ("compaction", "collection", "rotation")
        nth = 1 if background else seeded.randrange(1, 60)
        server.start(env={"ATOLL_CRASH_POINT": f"{point}:{nth}"})
        load = LoadGenerator(server, history, seed=seeded.getrandbits(60))
        load.start()
        deadline = time.monotonic() + 60
        while server.running() and time.monotonic() < deadline:
            time.sleep(0.3)
            if background and server.running():
                provoke(server, point)
        assert not server.running(), f"{point} was not reached"
        code = server.wait()
        load.stop()
        assert code == -9, "".join(server.output[-20:])
        assert not load.unexpected, load.unexpected[:5]
        server.start()
        history = settle(server, "crash", history)
        server.stop()
    assert history.acknowledged > 10 * hits
    server.start()
    try:
        empty(server, "crash")
        assert pieces(server) == 0, "space does not return to the live size"
    finally:
        server.kill()


@pytest.mark.timeout(900)
def test_killed_at_random_instants(tmp_path: Path, hits: int) -> None:
    server = LiveServer(tmp_path)
    history = History()
    seeded = random.Random("instants")
    server.start()
    server.client().create_bucket(Bucket="crash")
    for _ in range(2 * hits):
        load = LoadGenerator(server, history, seed=seeded.getrandbits(60), threads=8)
        load.start()
        time.sleep(seeded.uniform(0.5, 2.5))
        server.kill()
        load.stop()
        assert not load.unexpected, load.unexpected[:5]
        server.start()
        history = settle(server, "crash", history)
    status = json.loads(server.command("status", "--json").stdout)
    assert status["nodes"], status
    empty(server, "crash")
    assert pieces(server) == 0, "space does not return to the live size"
    server.kill()
