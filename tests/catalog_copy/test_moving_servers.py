"""A server's catalog copied and moved to another engine while clients write, through the public door."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.harness.live_server import LiveServer, ServerFailed, live_server
from tests.harness.postgres_server import PostgresServer

BUCKET = "bucket"
SIZES = (0, 100, 3_000, 20_000, 300_000, 2_000_000)


class Writers:
    """Clients that put and delete until told to stop, and note what was acknowledged."""

    def __init__(self, server: LiveServer, count: int = 4) -> None:
        self.acknowledged: dict[str, bytes | None] = {}
        self.unsure: set[str] = set()
        self.codes: set[str] = set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(server, seed)) for seed in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _work(self, server: LiveServer, seed: int) -> None:
        chance, client = random.Random(seed), server.client()
        while not self._stop.is_set():
            key = f"{seed}/{chance.randrange(60)}"
            body = None if chance.random() < 0.25 else chance.randbytes(chance.choice(SIZES[:5]))
            try:
                if body is None:
                    client.delete_object(Bucket=BUCKET, Key=key)
                else:
                    client.put_object(Bucket=BUCKET, Key=key, Body=body)
            except ClientError as error:
                # Refused, as far as the client can tell: what is there is what was there.
                self.codes.add(error.response["Error"]["Code"])
                time.sleep(0.05)
            except BotoCoreError:
                self.unsure.add(key)
                time.sleep(0.05)
            else:
                self.acknowledged[key] = body
                self.unsure.discard(key)


def fill(client: Any, count: int = 40) -> dict[str, bytes]:
    client.create_bucket(Bucket=BUCKET)
    chance = random.Random(7)
    bodies = {f"first/{number}": chance.randbytes(SIZES[number % len(SIZES)]) for number in range(count)}
    for key, body in bodies.items():
        client.put_object(Bucket=BUCKET, Key=key, Body=body)
    return bodies


def read(client: Any, key: str) -> bytes | None:
    try:
        body: bytes = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
        return None
    return body


def check(client: Any, expected: dict[str, Any]) -> None:
    for key, body in expected.items():
        assert read(client, key) == body, key
    listed = [
        entry["Key"]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        for entry in page.get("Contents", [])
    ]
    assert listed == sorted(listed)
    assert {key for key, body in expected.items() if body is not None} <= set(listed)


def wait_for_end(server: LiveServer) -> int:
    return server.wait(40)


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    name = asyncio.run(postgres.new_database())
    yield postgres.url(name)
    asyncio.run(postgres.drop_database(name))


Place = Callable[[LiveServer], tuple[str, dict[str, str]]]


@pytest.mark.parametrize("source", ["folder", "database"])
def test_a_catalog_moves_under_load_and_nothing_acknowledged_is_lost(tmp_path: Path, url: str, source: str) -> None:
    environment = {"ATOLL_CATALOG": url} if source == "database" else {}
    with live_server(tmp_path, env=environment) as server:
        expected: dict[str, Any] = dict(fill(server.client()))
        target = str(server.data) if source == "database" else url
        first = server.command("catalog", "copy", "--to", target)
        assert first.returncode == 0, first.stderr
        assert "all the same at sequence" in first.stdout
        writers = Writers(server)
        time.sleep(1.5)
        done = server.command("catalog", "copy", "--to", target, "--switch")
        assert done.returncode == 0, done.stderr
        assert "was moved" in done.stdout
        assert wait_for_end(server) == 0
        writers.stop()
        assert len(writers.acknowledged) > 20
        assert writers.codes <= {"SlowDown", "ServiceUnavailable"}
        expected |= {key: body for key, body in writers.acknowledged.items() if key not in writers.unsure}
        with pytest.raises(ServerFailed, match="was moved to") as refused:
            server.start()
        assert "secret-of-the-tests" not in str(refused.value) + done.stdout + done.stderr
    after = LiveServer(tmp_path, env={} if source == "database" else {"ATOLL_CATALOG": url})
    try:
        client = after.start().client()
        check(client, expected)
        client.put_object(Bucket=BUCKET, Key="later", Body=b"later")
        assert read(client, "later") == b"later"
        for worker in ("reclaim", "collection", "reclaim", "collection"):
            assert after.command("worker", "run", worker).returncode == 0
        checked = after.command("check")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        check(client, expected)
    finally:
        after.kill()
