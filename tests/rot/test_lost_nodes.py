"""Node folders vanish under a running server, and come back."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.harness.live_server import LiveServer
from tests.rot.conftest import BUCKET
from tests.rot.nodes import NODES, Nodes

MIB = 1 << 20
LARGE, PACKED, INLINE = 40 * MIB, 50_000, 2_000


def body(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def write(client: Any, *sizes: int) -> None:
    for size in sizes:
        client.put_object(Bucket=BUCKET, Key=f"key/{size}", Body=body(size))


def read(client: Any, size: int) -> bytes:
    data: bytes = client.get_object(Bucket=BUCKET, Key=f"key/{size}")["Body"].read()
    return data


def unavailable(client: Any, size: int) -> None:
    """Reading is refused as soon as the loss is noticed; until then the bytes are right, or the answer breaks off."""
    deadline = time.monotonic() + 10
    while True:
        try:
            assert read(client, size) == body(size)
        except ClientError as raised:
            error = raised.response
            break
        except BotoCoreError:
            pass
        assert time.monotonic() < deadline, "it is not refused"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert error["Error"]["Code"] == "ServiceUnavailable"
    assert "nodes" in error["Error"]["Message"]


@pytest.mark.timeout(300)
def test_two_go_while_reading_then_a_third(server: LiveServer, nodes: Nodes) -> None:
    client = server.client()
    write(client, LARGE, PACKED, INLINE)
    server.settle()
    rng = random.Random("lost")
    order = rng.sample(range(1, NODES + 1), 3)
    before = nodes.counters()
    stream = client.get_object(Bucket=BUCKET, Key=f"key/{LARGE}")["Body"]
    found = stream.read(5 * MIB)
    nodes.take_away(order[0])
    found += stream.read(5 * MIB)
    nodes.take_away(order[1])
    found += stream.read()
    assert found == body(LARGE)
    for size in (LARGE, PACKED, INLINE):
        assert read(client, size) == body(size)
    after = nodes.counters()
    assert after["degraded_reads"] > before["degraded_reads"]
    assert after["decodes"] > before["decodes"]
    down = nodes.wait_for(lambda status: sum(not node["up"] for node in status["nodes"]) == 2)
    assert {node["name"] for node in down["nodes"] if not node["up"]} == {f"disk-{number}" for number in order[:2]}
    assert down["health"]["state"] == "degraded"

    nodes.take_away(order[2])
    unavailable(client, LARGE)
    unavailable(client, PACKED)
    assert read(client, INLINE) == body(INLINE)  # it lies in the catalog

    for number in order:
        nodes.bring_back(number)
    nodes.wait_for(lambda status: all(node["up"] for node in status["nodes"]))
    for size in (LARGE, PACKED, INLINE):
        assert read(client, size) == body(size)
    assert nodes.counters()["damaged_reads"] == 0
    report, damage = nodes.check(repair=False)
    assert damage == []
    assert report["pieces"] == NODES * report["segments"]


@pytest.mark.timeout(300)
def test_two_destroyed_folders(server: LiveServer, nodes: Nodes) -> None:
    """Deleted for good, not only away: everything is still read."""
    client = server.client()
    write(client, LARGE, PACKED)
    server.settle()
    nodes.destroy(2)
    nodes.destroy(5)
    for size in (LARGE, PACKED):
        assert read(client, size) == body(size)
    assert nodes.counters()["degraded_reads"] > 0
    nodes.wait_for(lambda status: sum(not node["up"] for node in status["nodes"]) == 2)
    server.stop()
    server.start()
    for size in (LARGE, PACKED):
        assert read(server.client(), size) == body(size)


@pytest.mark.timeout(300)
def test_writes_go_on_narrower_and_are_recoded(server: LiveServer, nodes: Nodes) -> None:
    # As every SDK does by default: the first writes after a loss may be asked to come again.
    client = server.client(config=Config(retries={"total_max_attempts": 5, "mode": "standard"}))
    nodes.take_away(1)
    nodes.take_away(4)
    write(client, LARGE, PACKED, 3 * MIB)
    server.settle()
    for size in (LARGE, PACKED, 3 * MIB):
        assert read(client, size) == body(size)
    counters = nodes.counters()
    assert counters["segments_narrow"] >= 2
    assert counters["recodes"] == 0
    assert nodes.status()["health"]["counts"]["short_segments"] >= 2
    _, damage = nodes.check(repair=False)
    assert damage == []

    nodes.bring_back(1)
    nodes.bring_back(4)
    nodes.wait_for(lambda status: status["health"]["state"] == "healthy", seconds=60)
    assert nodes.counters()["recodes"] >= 2
    report, damage = nodes.check(repair=False)
    assert damage == []
    assert report["pieces"] == NODES * report["segments"], "not every segment is 4+2 again"
    # Wide again: any two others may go now.
    nodes.take_away(2)
    nodes.take_away(3)
    for size in (LARGE, PACKED, 3 * MIB):
        assert read(client, size) == body(size)


@pytest.mark.timeout(300)
def test_too_few_nodes_to_write(server: LiveServer, nodes: Nodes) -> None:
    """Large bodies are refused at once. Small ones may be taken until the loss is noticed; what was taken is there."""
    client = server.client()
    write(client, PACKED)
    taken = {f"key/{PACKED}"}
    for number in (1, 2, 3, 4):
        nodes.take_away(number)
    with pytest.raises(ClientError) as raised:
        client.put_object(Bucket=BUCKET, Key="refused", Body=bytes(2 * MIB))
    assert raised.value.response["Error"]["Code"] == "ServiceUnavailable"
    deadline = time.monotonic() + 30
    while True:
        key = f"taken/{len(taken):05}"
        try:
            client.put_object(Bucket=BUCKET, Key=key, Body=body(PACKED))
        except ClientError as error:
            refused = error.response["Error"]["Code"]
            break
        assert time.monotonic() < deadline, "it is not refused"
        taken.add(key)
        time.sleep(0.05)
    assert refused == "ServiceUnavailable"
    for number in (1, 2, 3, 4):
        nodes.bring_back(number)
    nodes.wait_for(lambda status: all(node["up"] for node in status["nodes"]))
    assert {entry["Key"] for entry in client.list_objects_v2(Bucket=BUCKET)["Contents"]} == taken
    client.put_object(Bucket=BUCKET, Key="accepted", Body=bytes(PACKED))
    server.settle()
    assert nodes.counters()["bodies_settled"] == len(taken) + 1
    for key in taken:
        assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body(PACKED)
