"""Full and read-only disks below a running server: a clear error, reads go on, space comes back after deletions."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.faults.conftest import Mounted
from tests.harness.live_server import LiveServer

MIB = 1 << 20
BUCKET = "trouble"
Mount = Callable[[Path, str], Mounted]


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[LiveServer]:
    """A server that was not started yet, so that its folders can be put on other file systems first."""
    server = LiveServer(tmp_path / "server", env={"ATOLL_FREE_SPACE_FLOOR": "1MiB"})
    server.data.mkdir(mode=0o700)
    yield server
    server.kill()


def body(key: str, size: int) -> bytes:
    return random.Random(key).randbytes(size)


def put(client: Any, key: str, size: int) -> None:
    client.put_object(Bucket=BUCKET, Key=key, Body=body(key, size))


def verify(client: Any, keys: dict[str, int]) -> None:
    for key, size in keys.items():
        assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body(key, size)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    listed = {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}
    assert listed == keys, "what was refused left something"


def refused(error: ClientError) -> str:
    """The message of a 503 that asks the client to come again."""
    response = error.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 503, response
    assert response["Error"]["Code"] in ("ServiceUnavailable", "SlowDown")
    assert "retry-after" in response["ResponseMetadata"]["HTTPHeaders"]
    message: str = response["Error"]["Message"]
    return message


def fill(client: Any, size: int, prefix: str, *, most: int = 2000) -> tuple[dict[str, int], ClientError]:
    """Put objects until one is refused; those that were taken, and the refusal."""
    taken: dict[str, int] = {}
    for number in range(most):
        key = f"{prefix}/{number:04}"
        try:
            put(client, key, size)
        except ClientError as error:
            return taken, error
        taken[key] = size
    raise AssertionError("it never fills")


def collect(server: LiveServer) -> None:
    for worker in ("settling", "reclaim", "collection", "compaction", "collection"):
        done = server.command("worker", "run", worker)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(180)
@pytest.mark.parametrize("size", [100_000, 3 * MIB], ids=["packed", "streamed"])
def test_full_nodes(stopped: LiveServer, mount: Mount, size: int) -> None:
    mount(stopped.nodes, "48m")
    client = stopped.start().client()
    client.create_bucket(Bucket=BUCKET)
    keys, error = fill(client, size, "filler")
    assert "space" in refused(error)
    # A disk of 48 MiB holds data and as much parity as 4+2 has, and not much of it may be left.
    assert 15 * MIB < sum(keys.values()) < 32 * MIB
    verify(client, keys)
    put(client, "inline", 1000)  # needs no node
    keys["inline"] = 1000
    upload = client.create_multipart_upload(Bucket=BUCKET, Key="upload")["UploadId"]
    with pytest.raises(ClientError) as raised:
        client.upload_part(Bucket=BUCKET, Key="upload", UploadId=upload, PartNumber=1, Body=bytes(5 * MIB))
    assert "space" in refused(raised.value)
    client.abort_multipart_upload(Bucket=BUCKET, Key="upload", UploadId=upload)
    verify(client, keys)

    for key in [key for key in keys if key.startswith("filler")][::2]:
        client.delete_object(Bucket=BUCKET, Key=key)
        del keys[key]
    collect(stopped)
    put_when_noticed(client, "after", size)
    keys["after"] = size
    verify(client, keys)
    checked = stopped.command("check", "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def put_when_noticed(client: Any, key: str, size: int) -> None:
    """Put, as a client does that comes again after a 503: the room is looked at every few seconds."""
    deadline = time.monotonic() + 20
    while True:
        try:
            put(client, key, size)
        except ClientError as error:
            refused(error)
            assert time.monotonic() < deadline, "the space did not come back"
            time.sleep(0.2)
        else:
            return


def create_buckets(client: Any, most: int = 1000) -> None:
    """A few small rows may still fit where a larger one did not."""
    for number in range(most):
        client.create_bucket(Bucket=f"another-{number}")


@pytest.mark.timeout(180)
def test_full_catalog(stopped: LiveServer, mount: Mount) -> None:
    mount(stopped.data / "catalog", "6m")
    client = stopped.start().client()
    client.create_bucket(Bucket=BUCKET)
    keys, error = fill(client, 4000, "inline")
    assert "space" in refused(error)
    assert len(keys) > 100
    verify(client, keys)
    with pytest.raises(ClientError) as raised:
        create_buckets(client)
    assert "space" in refused(raised.value)
    assert client.head_object(Bucket=BUCKET, Key="inline/0000")["ContentLength"] == 4000
    stopped.stop()
    client = stopped.start().client()
    verify(client, keys)


@pytest.mark.timeout(180)
def test_full_catalog_is_enlarged(stopped: LiveServer, mount: Mount) -> None:
    disk = mount(stopped.data / "catalog", "6m")
    client = stopped.start().client()
    client.create_bucket(Bucket=BUCKET)
    keys, _ = fill(client, 4000, "inline")
    disk.remount("size=64m")
    put(client, "after", 4000)
    client.delete_object(Bucket=BUCKET, Key="inline/0000")
    del keys["inline/0000"]
    verify(client, {**keys, "after": 4000})


@pytest.mark.timeout(180)
def test_read_only_nodes(stopped: LiveServer, mount: Mount) -> None:
    disk = mount(stopped.nodes, "64m")
    client = stopped.start().client()
    client.create_bucket(Bucket=BUCKET)
    keys = {"packed": 100_000, "streamed": 3 * MIB}
    for key, size in keys.items():
        put(client, key, size)
    disk.remount("ro")
    for size in (100_000, 3 * MIB):
        with pytest.raises(ClientError) as raised:
            put(client, "refused", size)
        refused(raised.value)
    verify(client, keys)
    client.delete_object(Bucket=BUCKET, Key="packed")  # names are in the catalog; the bytes wait
    del keys["packed"]
    verify(client, keys)
    stopped.stop()
    client = stopped.start().client()  # and starts on it, to be read
    verify(client, keys)

    disk.remount("rw")
    put_when_noticed(client, "after", 3 * MIB)
    keys["after"] = 3 * MIB
    verify(client, keys)
    collect(stopped)
    verify(client, keys)


@pytest.mark.timeout(180)
def test_nodes_of_different_room(stopped: LiveServer, mount: Mount) -> None:
    """Two nodes are much smaller: when they are full, writes go on to the others, narrower."""
    stopped.start()
    stopped.stop()
    for number in range(1, 7):
        folder = stopped.nodes / str(number)
        shutil.copytree(folder, stopped.folder / "copy" / str(number))
        mount(folder, "8m" if number in (2, 5) else "48m")
        shutil.copytree(stopped.folder / "copy" / str(number), folder, dirs_exist_ok=True)
    client = stopped.start().client()
    client.create_bucket(Bucket=BUCKET)
    keys: dict[str, int] = {}
    for number in range(16):
        key = f"object/{number}"
        put_when_noticed(client, key, 3 * MIB)
        keys[key] = 3 * MIB
    verify(client, keys)
    status = json.loads(stopped.command("status", "--json").stdout)
    assert status["health"]["counts"]["short_segments"] > 0, "nothing was written narrower"
    assert all(node["up"] for node in status["nodes"])
