"""Two gateways of one deployment, on PostgreSQL and the same nodes, behind each balancer that ships."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.deploy.balancers import KINDS, Balancer
from tests.harness.live_server import LiveServer
from tests.harness.postgres_server import PostgresServer

#: What docs/operations/load-balancer.md says that a gateway needs.
SETTINGS = """
trusted_proxies = ["127.0.0.1"]
domains = ["s3.example.com"]

[http]
drain_delay = "5s"

[log]
access = true
"""


def wait_until(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether it became true in time."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


class Gateways:
    """Two gateways of one deployment, whose catalog is the database at `url`."""

    def __init__(self, folder: Path, url: str) -> None:
        env = {"ATOLL_CATALOG": url, "ATOLL_ROOT_KEY_FILE": str(folder / "root.key")}
        self.each = [LiveServer(folder / name, config=SETTINGS, env=env).start() for name in ("one", "two")]

    def make(self, bucket: str, objects: dict[str, bytes] | None = None) -> None:
        """A bucket with these objects."""
        client = self.each[0].client()
        client.create_bucket(Bucket=bucket)
        for key, body in (objects or {}).items():
            client.put_object(Bucket=bucket, Key=key, Body=body)

    def logged(self, path: str) -> list[dict[str, Any]]:
        """Lines of the access log about `path` (as it came), of both gateways."""
        found: list[dict[str, Any]] = []
        for gateway in self.each:
            lines = [json.loads(one) for one in list(gateway.output) if one.startswith("{")]
            found += [line for line in lines if line.get("path") == path]
        return found

    def stop(self) -> None:
        for gateway in self.each:
            gateway.kill()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ca.pem`, `cert.pem` and `key.pem` of the balancers' names."""
    folder = tmp_path_factory.mktemp("balancer-tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1", "s3.example.com", "*.s3.example.com")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    return folder


@pytest.fixture(scope="session")
def gateways(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Gateways]:
    name = asyncio.run(postgres.new_database())
    both = Gateways(tmp_path_factory.mktemp("gateways"), postgres.url(name))
    yield both
    both.stop()


@pytest.fixture(scope="session", params=sorted(KINDS))
def balancer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, gateways: Gateways, certificates: Path
) -> Iterator[Balancer]:
    """Each balancer in turn."""
    ports = [one.port for one in gateways.each]
    running = KINDS[request.param](tmp_path_factory.mktemp(request.param), ports, certificates)
    running.start()
    yield running
    running.stop()
