"""What one gateway changes counts at the other; who may join; wrong clocks; work that a dead one leaves."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.harness import shifted_clock
from tests.harness.gateways import Cluster, GatewayProcess
from tests.harness.live_server import ServerFailed
from tests.harness.postgres_server import PostgresServer

#: Seconds within which a change made at one gateway counts at all, also on a machine that does much else. What is
#: promised is 1 s; `python -m bench.revocation` measures it.
EVERYWHERE = 5.0
BUCKET = "bucket"


@pytest.fixture(scope="module")
def cluster(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("two")
    made = Cluster(folder, postgres, asyncio.run(postgres.new_database()), count=2)
    try:
        made.start()
        made.gateways[0].client().create_bucket(Bucket=BUCKET)
        yield made
    finally:
        made.kill()


def within(seconds: float, condition: Callable[[], bool]) -> None:
    """The condition comes true in time, and would not stay false for ever."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not count there yet"
        time.sleep(0.02)


def code(call: Callable[[], Any]) -> str:
    """The error code of a call, "" for none."""
    try:
        call()
    except ClientError as error:
        found: str = error.response["Error"]["Code"]
        return found
    return ""


def status(link: str) -> int:
    """What a GET of a link is answered."""
    try:
        with urllib.request.urlopen(link, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def nodes(gateway: GatewayProcess) -> dict[str, Any]:
    return {node["name"]: node for node in gateway.admin.call("GET", "/status")["nodes"]}


def test_each_reads_what_the_other_wrote(cluster: Cluster) -> None:
    one, other = (gateway.client() for gateway in cluster.gateways)
    for size in (100, 50_000, 3 << 20):
        body = os.urandom(size)
        one.put_object(Bucket=BUCKET, Key=f"key/{size}", Body=body)
        assert other.get_object(Bucket=BUCKET, Key=f"key/{size}")["Body"].read() == body
        other.delete_object(Bucket=BUCKET, Key=f"key/{size}")
        assert code(lambda size=size: one.head_object(Bucket=BUCKET, Key=f"key/{size}")) == "404"  # type: ignore[misc]


@pytest.mark.parametrize("at", [0, 1])
def test_a_revoked_key_is_refused_everywhere(cluster: Cluster, at: int) -> None:
    """Also on a connection that was signed with it before, and for a link that was made with it."""
    one, other = cluster.gateways[at], cluster.gateways[1 - at]
    user = one.admin.call("POST", "/users", {"name": f"mayfly-{at}"})
    client = other.client(
        aws_access_key_id=user["access_key_id"], aws_secret_access_key=user["secret_access_key"],
        config=Config(signature_version="s3v4"),
    )  # fmt: skip
    within(EVERYWHERE, lambda: code(client.list_buckets) == "")
    client.create_bucket(Bucket=f"of-mayfly-{at}")
    link = client.generate_presigned_url("list_objects_v2", Params={"Bucket": f"of-mayfly-{at}"})
    assert status(link) == 200
    one.admin.call("DELETE", "/users", name=f"mayfly-{at}")
    within(EVERYWHERE, lambda: code(client.list_buckets) == "InvalidAccessKeyId")
    assert status(link) == 403
    assert f"mayfly-{at}" not in [known["name"] for known in other.admin.call("GET", "/users")]


@pytest.mark.parametrize("at", [0, 1])
def test_a_quota_counts_everywhere(cluster: Cluster, at: int) -> None:
    """At once: it is read by the transaction that makes a bucket, so there is nothing to wait for."""
    one, other = cluster.gateways[at], cluster.gateways[1 - at]
    name = f"bounded-{at}"
    user = one.admin.call("POST", "/users", {"name": name})
    client = other.client(aws_access_key_id=user["access_key_id"], aws_secret_access_key=user["secret_access_key"])
    within(EVERYWHERE, lambda: code(client.list_buckets) == "")
    for turn in range(20):
        one.admin.call("PUT", "/users/quota", {"name": name, "max_buckets": turn})
        assert code(lambda turn=turn: client.create_bucket(Bucket=f"{name}-{turn}")) == "TooManyBuckets"  # type: ignore[misc]
        one.admin.call("PUT", "/users/quota", {"name": name, "max_buckets": turn + 1})
        assert code(lambda turn=turn: client.create_bucket(Bucket=f"{name}-{turn}")) == ""  # type: ignore[misc]
    for gateway in cluster.gateways:
        (told,) = [known for known in gateway.admin.call("GET", "/users") if known["name"] == name]
        assert (told["buckets"], told["max_buckets"]) == (20, 20)


def test_the_last_bucket_of_a_quota_is_made_once(cluster: Cluster) -> None:
    user = cluster.gateways[0].admin.call("POST", "/users", {"name": "racing"})
    clients = [
        gateway.client(aws_access_key_id=user["access_key_id"], aws_secret_access_key=user["secret_access_key"])
        for gateway in cluster.gateways
    ]
    for client in clients:
        within(EVERYWHERE, lambda client=client: code(client.list_buckets) == "")  # type: ignore[misc]
    cluster.gateways[1].admin.call("PUT", "/users/quota", {"name": "racing", "max_buckets": 2})
    clients[0].create_bucket(Bucket="racing-first")
    with ThreadPoolExecutor(6) as pool:
        for turn in range(10):
            names = [f"racing-{turn}-{number}" for number in range(6)]
            calls = [
                partial(clients[number % 2].create_bucket, Bucket=bucket) for number, bucket in enumerate(names)
            ]  # fmt: skip
            assert sorted(pool.map(code, calls)) == ["", *["TooManyBuckets"] * 5]
            (made,) = {bucket["Name"] for bucket in clients[0].list_buckets()["Buckets"]} - {"racing-first"}
            within(EVERYWHERE, lambda made=made, turn=turn: code(  # type: ignore[misc]
                lambda: clients[turn % 2].delete_bucket(Bucket=made)) == "")  # fmt: skip


@pytest.mark.parametrize("at", [0, 1])
def test_permissions_count_everywhere(cluster: Cluster, at: int) -> None:
    one, other = cluster.gateways[at], cluster.gateways[1 - at]
    owner, stranger = one.client(), other.client(config=Config(signature_version=UNSIGNED))
    owner.put_object(Bucket=BUCKET, Key="shown", Body=b"x")

    def lists() -> Any:
        return stranger.list_objects_v2(Bucket=BUCKET)

    for _ in range(2):
        owner.put_bucket_acl(Bucket=BUCKET, ACL="public-read")
        within(EVERYWHERE, lambda: code(lists) == "")
        owner.put_bucket_acl(Bucket=BUCKET, ACL="private")
        within(EVERYWHERE, lambda: code(lists) == "AccessDenied")


@pytest.mark.parametrize("size", [10, 50_000, 3 << 20])
def test_an_objects_permissions_count_everywhere(cluster: Cluster, size: int) -> None:
    """Whatever the other one remembers of an object that it has just given to anybody."""
    one, other = cluster.gateways
    owner, stranger = one.client(), other.client(config=Config(signature_version=UNSIGNED))
    key, body = f"given/{size}", os.urandom(size)

    def get() -> bytes:
        found: bytes = stranger.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return found

    owner.put_object(Bucket=BUCKET, Key=key, Body=body, ACL="public-read")
    for _ in range(2):
        within(EVERYWHERE, lambda: code(get) == "")
        assert get() == body
        owner.put_object_acl(Bucket=BUCKET, Key=key, ACL="private")
        within(EVERYWHERE, lambda: code(get) == "AccessDenied")
        assert code(lambda: stranger.head_object(Bucket=BUCKET, Key=key)) == "403"
        assert other.client().get_object(Bucket=BUCKET, Key=key)["Body"].read() == body
        owner.put_object_acl(Bucket=BUCKET, Key=key, ACL="public-read")


def test_a_bucket_and_its_settings_count_everywhere(cluster: Cluster) -> None:
    one, other = (gateway.client() for gateway in cluster.gateways)
    assert code(lambda: other.head_bucket(Bucket="short-lived")) == "404"
    one.create_bucket(Bucket="short-lived")
    within(EVERYWHERE, lambda: code(lambda: other.head_bucket(Bucket="short-lived")) == "")
    one.put_bucket_versioning(Bucket="short-lived", VersioningConfiguration={"Status": "Enabled"})
    within(EVERYWHERE, lambda: "VersionId" in other.put_object(Bucket="short-lived", Key="key", Body=b"x"))
    for version in one.list_object_versions(Bucket="short-lived").get("Versions", []):
        one.delete_object(Bucket="short-lived", Key="key", VersionId=version["VersionId"])
    one.delete_bucket(Bucket="short-lived")
    within(EVERYWHERE, lambda: code(lambda: other.head_bucket(Bucket="short-lived")) == "404")


def test_status_tells_of_both(cluster: Cluster) -> None:
    within(5, lambda: all(len(gateways_of(gateway)) == 2 for gateway in cluster.gateways))
    told = gateways_of(cluster.gateways[0])
    assert {gateway["endpoint"] for gateway in told} == {gateway.url for gateway in cluster.gateways}
    assert [gateway["self"] for gateway in told].count(True) == 1
    assert all(node["up"] and node["free"] > 0 for gateway in told for node in gateway["nodes"])
    shown = cluster.gateways[1].command("status").stdout
    assert "Gateways" in shown
    assert "this one" in shown
    assert json.loads(cluster.gateways[1].command("status", "--json").stdout)["gateways"]


def gateways_of(gateway: GatewayProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.admin.call("GET", "/status")["gateways"]
    return [one for one in found if one["endpoint"]]


@pytest.mark.timeout(180)
def test_nodes_come_and_go_at_both(cluster: Cluster) -> None:
    one, other = cluster.gateways
    body = os.urandom(3 << 20)
    one.client().put_object(Bucket=BUCKET, Key="stays", Body=body)
    done = one.command("node", "add", str(cluster.folder / "nodes" / "7"), "--domain", "rack-2")
    assert done.returncode == 0, done.stderr
    within(2.5, lambda: nodes(other).get("disk-7", {}).get("up", False))
    assert nodes(other)["disk-7"]["domain"] == "rack-2"
    again = other.command("node", "add", str(cluster.folder / "nodes" / "7"))
    assert "is the node disk-7 already" in again.stderr
    assert other.command("node", "remove", "disk-1").returncode == 0
    within(2.5, lambda: nodes(one)["disk-1"]["leaving"])
    deadline = time.monotonic() + 90
    while "disk-1" in nodes(one) or "disk-1" in nodes(other):
        assert time.monotonic() < deadline, "it is not emptied"
        for gateway in cluster.gateways:
            for worker in ("drain", "collection"):
                gateway.admin.call("POST", f"/workers/{worker}/run")
        time.sleep(0.2)
    left = [path for path in (cluster.folder / "nodes" / "1" / "pieces").rglob("*") if path.is_file()]
    assert [path.name for path in left if not path.name.startswith("f")] == []
    for gateway in cluster.gateways:
        assert gateway.client().get_object(Bucket=BUCKET, Key="stays")["Body"].read() == body
    assert "no node is named disk-1" in one.command("node", "remove", "disk-1").stderr
    back = one.command("node", "add", str(cluster.folder / "nodes" / "1"))
    assert "added disk-1" in back.stdout, back.stderr
    within(2.5, lambda: nodes(other).get("disk-1", {}).get("up", False))


def test_the_root_users_key_is_the_same_at_all(cluster: Cluster, tmp_path: Path) -> None:
    """Without one in the settings, the first makes it and the next finds it."""
    unset = {"ATOLL_ACCESS_KEY_ID": "", "ATOLL_SECRET_ACCESS_KEY": ""}
    printed = []
    for name in ("third", "fourth"):
        gateway = cluster.new_gateway(str(tmp_path / name), env=unset)
        gateway.start()
        printed.append("".join(gateway.output))
        if name == "third":
            words = printed[0].replace("=", " ").split()
            key_id, secret = (words[words.index(f"AWS_{kind}") + 1] for kind in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
        client = gateway.client(aws_access_key_id=key_id, aws_secret_access_key=secret)
        assert BUCKET in [one["Name"] for one in client.list_buckets()["Buckets"]]
        assert gateway.stop() == 0
    assert secret not in printed[1]


def test_a_wrong_root_key_does_not_join(cluster: Cluster, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.key"
    wrong.write_text("ab" * 32)
    wrong.chmod(0o600)
    gateway = cluster.new_gateway(str(tmp_path / "stranger"), env={"ATOLL_ROOT_KEY_FILE": str(wrong)})
    with pytest.raises(ServerFailed, match="is not the root key of this deployment"):
        gateway.start()
    gateway = cluster.new_gateway(str(tmp_path / "keyless"), env={"ATOLL_ROOT_KEY_FILE": str(tmp_path / "none")})
    with pytest.raises(ServerFailed, match="is missing"):
        gateway.start()
    assert not (tmp_path / "none").exists()


def test_nodes_of_another_deployment_are_not_taken(cluster: Cluster, postgres: PostgresServer, tmp_path: Path) -> None:
    """A gateway with the catalog of one deployment and the node folders of another."""
    database = asyncio.run(postgres.new_database())
    stranger = GatewayProcess(
        tmp_path / "stranger", catalog=postgres.url(database), root_key=tmp_path / "root.key", nodes=cluster.nodes
    )
    with pytest.raises(ServerFailed, match="exit 3"):
        stranger.start()
    assert "cannot make the embedded nodes" in "".join(stranger.output)


@pytest.mark.timeout(240)
def test_wrong_clocks_and_a_dead_gateways_work(postgres: PostgresServer, tmp_path: Path) -> None:
    """Two whose clocks are two hours apart agree on the order of versions, and don't take each other for dead; when one
    dies the other takes over what it alone did."""
    cluster = Cluster(tmp_path, postgres, asyncio.run(postgres.new_database()), count=2)
    for gateway, seconds in zip(cluster.gateways, (3600, -3600), strict=True):
        gateway.program = [sys.executable, shifted_clock.__file__, str(seconds), "up"]
    try:
        cluster.start()
        ahead, behind = (gateway.client() for gateway in cluster.gateways)
        ahead.create_bucket(Bucket=BUCKET)
        ahead.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        made = []
        for client in (ahead, behind, behind, ahead, behind):
            within(EVERYWHERE, lambda client=client: code(lambda: client.head_bucket(Bucket=BUCKET)) == "")  # type: ignore[misc]
            made.append(client.put_object(Bucket=BUCKET, Key="key", Body=b"x")["VersionId"])
        listed = behind.list_object_versions(Bucket=BUCKET)["Versions"]
        assert [version["VersionId"] for version in listed] == made[::-1]
        assert all(abs((version["LastModified"] - datetime.now(UTC)).total_seconds()) < 120 for version in listed)
        holder, other = cluster.gateways
        within(10, lambda: "left to another" in worker(other, "collection")["progress"])
        time.sleep(18)
        assert len(gateways_of(holder)) == len(gateways_of(other)) == 2, "one took the other for dead"
        assert [gateway.beginnings() for gateway in cluster.gateways] == [1, 1]
        behind.put_object(Bucket=BUCKET, Key="key", Body=b"y" * 100_000)
        holder.kill()
        within(60, lambda: "left to another" not in worker(other, "collection")["progress"])
        assert len(gateways_of(other)) == 1
    finally:
        cluster.kill()


def worker(gateway: GatewayProcess, name: str) -> dict[str, Any]:
    return next(one for one in gateway.admin.call("GET", "/workers") if one["name"] == name)
