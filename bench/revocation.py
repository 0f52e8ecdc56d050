"""How soon what is revoked at one gateway is refused by another, on one PostgreSQL: users, quotas, ACLs of buckets and
of objects.

A revocation counts from the answer of the gateway at which it was made to the first refusal of the other one, which is
asked without a pause on a kept connection; one that is refused at once counts as the time of that one request. First
without other load, then while clients write small objects at both gateways. Floor: 1 s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import itertools
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import ClientError

from bench.client import RawClient
from bench.signing import Endpoint
from tests.harness.gateways import Cluster, GatewayProcess
from tests.harness.live_server import ROOT_KEY_ID, ROOT_SECRET
from tests.harness.postgres_server import PostgresServer

BUCKET, KEY = "bucket", "object"
FLOOR_SECONDS = 1.0
_SMALL = b"x" * 10_000
_PATIENCE = 30.0  # seconds until a revocation is called none


class Asking:
    """Requests of a gateway without a pause, on one connection; `refusal` is the status that they come to have."""

    def __init__(
        self, gateway: GatewayProcess, urls: Iterator[str], *, method: str = "GET", refusal: int = 403
    ) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=_PATIENCE)
        self._urls = urls
        self._method = method
        self.refusal = refusal

    def until(self, status: int) -> float:
        """When this was answered first."""
        deadline = time.perf_counter() + _PATIENCE
        while True:
            parts = urlsplit(next(self._urls))
            self._connection.request(self._method, f"{parts.path}?{parts.query}", headers={"Host": parts.netloc})
            answer = self._connection.getresponse()
            answer.read()
            now = time.perf_counter()
            if answer.status == status:
                return now
            if now > deadline:
                raise RuntimeError(f"still {answer.status} after {_PATIENCE:g} s")

    def close(self) -> None:
        self._connection.close()


def revoke_user(one: GatewayProcess, other: GatewayProcess, number: int) -> float:
    """Remove a user whose signed requests the other gateway has answered."""
    user = one.admin.call("POST", "/users", {"name": f"user-{number}-{time.time_ns()}"})
    client = other.client(
        aws_access_key_id=user["access_key_id"], aws_secret_access_key=user["secret_access_key"]
    )  # fmt: skip
    asking = Asking(other, itertools.repeat(client.generate_presigned_url("list_buckets")))
    asking.until(200)
    one.admin.call("DELETE", "/users", name=user["name"])
    return _seconds(asking)


def lower_quota(one: GatewayProcess, other: GatewayProcess, number: int) -> float:
    """Take the room for new buckets from a user who was making them at the other gateway."""
    user = one.admin.call("POST", "/users", {"name": f"owner-{number}-{time.time_ns()}"})
    client = other.client(
        aws_access_key_id=user["access_key_id"], aws_secret_access_key=user["secret_access_key"],
        config=Config(signature_version="s3v4"),
    )  # fmt: skip
    one.admin.call("PUT", "/users/quota", {"name": user["name"], "max_buckets": 1000})
    names = (f"{user['name']}-{taken}" for taken in itertools.count())
    urls = (client.generate_presigned_url("create_bucket", Params={"Bucket": name}) for name in names)
    asking = Asking(other, urls, method="PUT", refusal=400)
    asking.until(200)
    one.admin.call("PUT", "/users/quota", {"name": user["name"], "max_buckets": 1})
    return _seconds(asking)


def revoke_bucket(one: GatewayProcess, other: GatewayProcess, _: int) -> float:
    """Make a bucket private whose listing the other gateway has shown to anybody."""
    client = one.client()
    client.put_bucket_acl(Bucket=BUCKET, ACL="public-read")
    asking = Asking(other, itertools.repeat(f"{other.url}/{BUCKET}?list-type=2&max-keys=1"))
    asking.until(200)
    client.put_bucket_acl(Bucket=BUCKET, ACL="private")
    return _seconds(asking)


def revoke_object(one: GatewayProcess, other: GatewayProcess, _: int) -> float:
    """Make an object private that the other gateway has given to anybody."""
    client = one.client()
    client.put_object_acl(Bucket=BUCKET, Key=KEY, ACL="public-read")
    asking = Asking(other, itertools.repeat(f"{other.url}/{BUCKET}/{KEY}?x-id=GetObject"))
    asking.until(200)
    client.put_object_acl(Bucket=BUCKET, Key=KEY, ACL="private")
    return _seconds(asking)


def _seconds(asking: Asking) -> float:
    """From now to the first refusal."""
    answered = time.perf_counter()
    try:
        return asking.until(asking.refusal) - answered
    finally:
        asking.close()


REVOCATIONS: dict[str, Callable[[GatewayProcess, GatewayProcess, int], float]] = {
    "a user removed": revoke_user,
    "a quota lowered": lower_quota,
    "a bucket made private": revoke_bucket,
    "an object made private": revoke_object,
}


@contextlib.contextmanager
def load(cluster: Cluster, clients: int) -> Iterator[None]:
    """So many clients at each gateway, which put small objects while the block runs."""
    stop = threading.Event()

    def work(gateway: GatewayProcess, number: int) -> None:
        endpoint = Endpoint("127.0.0.1", gateway.port, ROOT_KEY_ID, ROOT_SECRET)
        client = RawClient(endpoint)
        count = 0
        while not stop.is_set():
            client.put(f"/{BUCKET}/load/{gateway.folder.name}/{number}/{count % 500}", _SMALL)
            count += 1
        client.close()

    threads = [
        threading.Thread(target=work, args=(gateway, number))
        for gateway in cluster.gateways
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def measure(cluster: Cluster, name: str, count: int) -> float:
    """Print the figures of each kind of revocation; the longest of all."""
    longest = 0.0
    for what, revoke in REVOCATIONS.items():
        taken = []
        for number in range(count):
            one, other = cluster.gateways if number % 2 else cluster.gateways[::-1]
            taken.append(revoke(one, other, number))
        taken.sort()
        longest = max(longest, taken[-1])
        p99 = taken[min(count - 1, round(0.99 * count))]
        print(
            f"{name}, {what}, {count} times: p50 {statistics.median(taken) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, "
            f"max {taken[-1] * 1000:.0f} ms",
            flush=True,
        )
    return longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--clients", type=int, default=4)
    given = parser.parse_args()
    base = Path(__file__).resolve().parents[1] / "data"
    base.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="revocation-", dir=base))
    postgres = PostgresServer(durable=True)
    cluster: Cluster | None = None
    try:
        postgres.start()
        cluster = Cluster(folder, postgres, asyncio.run(postgres.new_database()), count=2)
        cluster.start()
        client = cluster.gateways[0].client()
        with contextlib.suppress(ClientError):
            client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key=KEY, Body=_SMALL)
        longest = measure(cluster, "without load", given.count)
        with load(cluster, given.clients):
            longest = max(longest, measure(cluster, f"{2 * given.clients} clients write", given.count))
    finally:
        if cluster is not None:
            cluster.kill()
        postgres.close()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(longest > FLOOR_SECONDS)


if __name__ == "__main__":
    main()
