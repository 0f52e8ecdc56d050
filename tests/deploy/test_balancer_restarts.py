"""Gateways are restarted one after the other under load, and no client sees it."""

from __future__ import annotations

import operator
import threading
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.badinput.wire import Wire, hear
from tests.deploy.balancers import Balancer
from tests.deploy.conftest import Gateways, wait_until
from tests.harness.live_server import REGION, ROOT_KEY_ID, ROOT_SECRET

pytestmark = pytest.mark.xdist_group("balancers")

SMALL = b"s" * 5000
LARGE = b"l" * (8 << 20)


@pytest.fixture(scope="module")
def bucket(gateways: Gateways) -> str:
    gateways.make("restarts", {"small": SMALL, "large": LARGE})
    return "restarts"


class Load:
    """Clients that never try twice, each in a thread, until `stop`; what went wrong is in `failures`."""

    def __init__(self, port: int, bucket: str) -> None:
        self.port, self.bucket = port, bucket
        self.done: dict[str, int] = {}
        self.failures: list[str] = []
        self._ended = threading.Event()
        works = (self.read_small, self.read_large, self.write_small, self.write_large, self.replace)
        self._threads = [threading.Thread(target=self._work, args=(work, self._ended)) for work in works]
        for thread in self._threads:
            thread.start()

    def begin_uploads(self) -> None:
        """Some long uploads, on both gateways as they are spread by the number of connections."""
        once = threading.Event()
        once.set()
        for _ in range(4):
            thread = threading.Thread(target=self._work, args=(self.upload, once))
            self._threads.append(thread)
            thread.start()
        time.sleep(1)

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(30)

    def _work(self, work: Callable[..., None], ended: threading.Event) -> None:
        """At least once."""
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name=REGION,
            aws_access_key_id=ROOT_KEY_ID,
            aws_secret_access_key=ROOT_SECRET,
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )
        name = work.__name__
        number = 0
        while number == 0 or not ended.wait(0.02):
            number += 1
            try:
                work(client, f"{threading.get_ident()}-{number}")
                self.done[name] = self.done.get(name, 0) + 1
            except Exception as error:
                self.failures.append(f"{time.strftime('%X')} {name} {number}: {error!r}")

    def read_small(self, client: Any, _name: str) -> None:
        assert client.get_object(Bucket=self.bucket, Key="small")["Body"].read() == SMALL

    def read_large(self, client: Any, _name: str) -> None:
        assert client.get_object(Bucket=self.bucket, Key="large")["Body"].read() == LARGE

    def write_small(self, client: Any, name: str) -> None:
        client.put_object(Bucket=self.bucket, Key=name, Body=SMALL)

    def write_large(self, client: Any, name: str) -> None:
        client.put_object(Bucket=self.bucket, Key=name, Body=LARGE)

    def replace(self, client: Any, name: str) -> None:
        """Whoever answers: what was acknowledged is what is read."""
        client.put_object(Bucket=self.bucket, Key="replaced", Body=name.encode())
        assert client.get_object(Bucket=self.bucket, Key="replaced")["Body"].read() == name.encode()

    def upload(self, _client: Any, name: str) -> None:
        """A body that takes longer than a gateway's delay, so that it is under way when the listener closes."""
        wire = Wire(self.port)
        late = [("Content-Length", str(len(SMALL) * 40))]
        with wire.connect() as connection:
            connection.sendall(wire.head("PUT", f"/{self.bucket}/{name}", None, late))
            for _ in range(40):
                connection.sendall(SMALL)
                time.sleep(0.2)
            assert hear(connection).status == 200


def served(gateways: Gateways) -> list[int]:
    """Lines that each gateway has written of requests."""
    return [sum('"operation"' in line for line in list(one.output)) for one in gateways.each]


@pytest.mark.timeout(180)
def test_no_client_sees_a_gateway_restart(balancer: Balancer, gateways: Gateways, bucket: str) -> None:
    load = Load(balancer.http, bucket)
    try:
        for gateway in gateways.each:
            load.begin_uploads()
            assert gateway.stop() == 0
            assert not any("cut off" in line for line in gateway.output)
            gateway.start()
            assert wait_until(lambda: all(served(gateways)), 15), "it is not taken back"
        before = served(gateways)
        assert wait_until(lambda: all(map(operator.gt, served(gateways), before)), 10), "one is left out"
    finally:
        load.stop()
    assert load.failures == []
    assert set(load.done) == {"read_small", "read_large", "write_small", "write_large", "replace", "upload"}
    assert load.done["upload"] == 8
    assert sum(load.done.values()) > 100


def test_a_gateway_that_dies_is_left_out_within_seconds_and_taken_back(
    balancer: Balancer, gateways: Gateways, bucket: str
) -> None:
    wire = Wire(balancer.http)

    def statuses(count: int) -> list[int]:
        """Of that many small reads, each on a connection of its own; 0 for none."""
        heard = [wire.say(wire.head("GET", f"/{bucket}/small")).statuses for _ in range(count)]
        return [one[0] if one else 0 for one in heard]

    dead, other = gateways.each
    assert set(statuses(20)) == {200}
    dead.kill()
    try:
        assert statuses(1)[0] in (200, 502), "at worst a connection that was open is found to be dead"
        time.sleep(2.5)
        assert set(statuses(40)) == {200}
    finally:
        dead.start()
    deadline = time.monotonic() + 15
    before = served(gateways)
    while served(gateways)[0] == before[0]:
        assert time.monotonic() < deadline, "it is never asked again"
        assert set(statuses(10)) == {200}
        time.sleep(0.2)
    assert other.running()
