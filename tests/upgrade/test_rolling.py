"""From the previous release to the tree's program and back, gateway by gateway, while clients go on."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from core.ids import is_snapshot_name
from tests.harness.gateways import Cluster, GatewayProcess, KeepingLoad
from tests.harness.load import PART
from tests.harness.postgres_server import PostgresServer
from tests.harness.versioned import Versions, settle_versions
from tests.upgrade import releases
from tests.upgrade.steady import BUCKET, SteadyClients

KEEPING, SEEN = "keeping", "seen"
TREE = metadata.version("atoll")


@pytest.fixture(scope="module")
def old_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of the previous release."""
    return releases.unpack_program(releases.PREVIOUS, tmp_path_factory.mktemp("old"))


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def code(call: Callable[[], Any]) -> str:
    """The error code of a call, "" for none."""
    try:
        call()
    except ClientError as error:
        found: str = error.response["Error"]["Code"]
        return found
    return ""


def tell(first: GatewayProcess, second: GatewayProcess, versions: set[str]) -> None:
    """`status` at either comes to tell that the gateways are of these releases."""
    for gateway in (first, second):
        until(
            lambda gateway=gateway: {  # type: ignore[misc]
                told["version"] for told in gateway.admin.call("GET", "/status")["gateways"]
            } == versions,
            f"the gateways are not told to be of {versions}",
        )  # fmt: skip


def worker(gateway: GatewayProcess, name: str) -> dict[str, Any]:
    return next(one for one in gateway.admin.call("GET", "/workers") if one["name"] == name)


def does(gateway: GatewayProcess, name: str) -> bool:
    """Whether this one does the shared work, for all."""
    return "left to another" not in worker(gateway, name)["progress"]


class Upgrade:
    """Two gateways, and clients at both for as long as the block runs."""

    def __init__(self, folder: Path, postgres: PostgresServer, old_program: Path) -> None:
        self.cluster = Cluster(folder, postgres, asyncio.run(postgres.new_database()), count=2)
        self.versions = Versions()
        for gateway in self.cluster.gateways:
            gateway.packages = old_program

    def __enter__(self) -> Upgrade:
        self.cluster.start()
        client = self.cluster.gateways[0].client()
        for bucket in (KEEPING, SEEN, BUCKET):
            client.create_bucket(Bucket=bucket)
        client.put_bucket_versioning(Bucket=KEEPING, VersioningConfiguration={"Status": "Enabled"})
        self.steady = SteadyClients(self.cluster.gateways)
        self.steady.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.steady.stop()
        finally:
            if kind is not None:
                for gateway in self.cluster.gateways:
                    sys.stderr.write(f"--- {gateway.folder.name}\n{''.join(gateway.output[-30:])}\n")

    def replace(self, number: int, packages: Path | None) -> None:
        """Stop one gateway and start another program in its place, as a service manager does; what clients were
        answered meanwhile must fit one order of all operations."""
        gateway, other = self.cluster.gateways[number], self.cluster.gateways[1 - number]
        load = KeepingLoad(self.cluster, self.versions, seed=number, bucket=KEEPING, threads=1)
        load.start()
        try:
            self.steady.go_on()
            assert gateway.stop() == 0
            if other.packages != gateway.packages:
                until(lambda: does(other, "collection"), "the other version does not take over the shared work")
            gateway.packages = packages
            gateway.start()
            self.steady.go_on()
        finally:
            load.stop()
        assert not load.unexpected, load.unexpected[:5]
        assert not load.unavailable
        self.versions = settle_versions(self.cluster, KEEPING, self.versions)


def see_each_other(one: GatewayProcess, other: GatewayProcess, name: str) -> None:
    """What one changes counts at the other: objects, uploads, users, permissions, settings of buckets."""
    here, there = one.client(), other.client()
    for size in (100, 50_000, 1_500_000):
        body = os.urandom(size)
        here.put_object(Bucket=SEEN, Key=f"{name}/{size}", Body=body, Tagging="a=b", Metadata={"by": name})
        answer = there.get_object(Bucket=SEEN, Key=f"{name}/{size}")
        assert answer["Body"].read() == body
        assert answer["Metadata"] == {"by": name}
        assert there.get_object_tagging(Bucket=SEEN, Key=f"{name}/{size}")["TagSet"] == [{"Key": "a", "Value": "b"}]
        there.copy_object(Bucket=SEEN, Key=f"{name}/copy", CopySource={"Bucket": SEEN, "Key": f"{name}/{size}"})
        there.delete_object(Bucket=SEEN, Key=f"{name}/{size}")
        assert code(lambda size=size: here.head_object(Bucket=SEEN, Key=f"{name}/{size}")) == "404"  # type: ignore[misc]
        assert here.get_object(Bucket=SEEN, Key=f"{name}/copy")["Body"].read() == body
    named = {"Bucket": SEEN, "Key": f"{name}/parts"}
    upload = here.create_multipart_upload(**named)["UploadId"]
    bodies = os.urandom(PART), os.urandom(30_000)
    parts = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(**named, UploadId=upload, PartNumber=number, Body=body)["ETag"],
        }
        for number, (client, body) in enumerate(zip((here, there), bodies, strict=True), 1)
    ]
    there.complete_multipart_upload(**named, UploadId=upload, MultipartUpload={"Parts": parts})
    assert here.get_object(**named)["Body"].read() == b"".join(bodies)
    user = one.admin.call("POST", "/users", {"name": name})
    theirs = other.client(aws_access_key_id=user["access_key_id"], aws_secret_access_key=user["secret_access_key"])
    until(lambda: code(theirs.list_buckets) == "", "a new user is not known")
    other.admin.call("DELETE", "/users", name=name)
    mine = one.client(aws_access_key_id=user["access_key_id"], aws_secret_access_key=user["secret_access_key"])
    until(lambda: code(mine.list_buckets) == "InvalidAccessKeyId", "a removed user is still let in")
    here.create_bucket(Bucket=name)
    until(lambda: code(lambda: there.head_bucket(Bucket=name)) == "", "a new bucket is not there")
    nobody = other.client(config=Config(signature_version=UNSIGNED))
    assert code(lambda: nobody.list_objects_v2(Bucket=name)) == "AccessDenied"
    here.put_bucket_acl(Bucket=name, ACL="public-read")
    until(lambda: code(lambda: nobody.list_objects_v2(Bucket=name)) == "", "a permission does not count")
    there.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    until(lambda: "VersionId" in here.put_object(Bucket=name, Key="key", Body=b"x"), "versioning does not count")
    for version in there.list_object_versions(Bucket=name)["Versions"]:
        there.delete_object(Bucket=name, Key="key", VersionId=version["VersionId"])
    there.delete_bucket(Bucket=name)
    until(lambda: code(lambda: here.head_bucket(Bucket=name)) == "404", "a deleted bucket is still there")


def keep_to_a_quota(new: GatewayProcess, old: GatewayProcess) -> None:
    """The old one knows no quotas, lives with a user that has one, and what it makes counts at the new one."""
    user = new.admin.call("POST", "/users", {"name": "bounded"})
    keys = {"aws_access_key_id": user["access_key_id"], "aws_secret_access_key": user["secret_access_key"]}
    here, there = new.client(**keys), old.client(**keys)
    for client in (here, there):
        until(lambda client=client: code(client.list_buckets) == "", "a new user is not known")  # type: ignore[misc]
    new.admin.call("PUT", "/users/quota", {"name": "bounded", "max_buckets": 2})
    there.create_bucket(Bucket="bounded-1")
    here.create_bucket(Bucket="bounded-2")
    assert code(lambda: here.create_bucket(Bucket="bounded-3")) == "TooManyBuckets"
    there.create_bucket(Bucket="bounded-3")
    assert "bounded" in [known["name"] for known in old.admin.call("GET", "/users")]
    there.delete_bucket(Bucket="bounded-1")
    assert code(lambda: here.create_bucket(Bucket="bounded-4")) == "TooManyBuckets"
    there.delete_bucket(Bucket="bounded-2")
    here.create_bucket(Bucket="bounded-4")
    # It leaves the quota behind; a user of the same id has none.
    old.admin.call("DELETE", "/users", name="bounded")
    new.admin.call("POST", "/users", {"name": "bounded", "id": user["id"]})
    (again,) = [known for known in new.admin.call("GET", "/users") if known["name"] == "bounded"]
    assert (again["buckets"], again["max_buckets"]) == (2, None)


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("gateways")
def test_up_and_back_without_a_failed_request(
    postgres: PostgresServer, tmp_path: Path, old_program: Path, figure: Callable[[str], None]
) -> None:
    upgrade = Upgrade(tmp_path, postgres, old_program)
    first, second = upgrade.cluster.gateways
    try:
        with upgrade:
            upgrade.replace(0, None)
            tell(first, second, {releases.PREVIOUS, TREE})
            see_each_other(first, second, "new-and-old")
            see_each_other(second, first, "old-and-new")
            keep_to_a_quota(first, second)
            upgrade.replace(1, None)
            tell(first, second, {TREE})
            upgrade.replace(0, old_program)
            see_each_other(first, second, "old-beside-new")
            upgrade.replace(1, old_program)
            tell(first, second, {releases.PREVIOUS})
        upgrade.steady.verify()
        figure(f"{upgrade.steady.answered} requests answered, {upgrade.steady.moved} sent again to another gateway")
        assert not check(first, repair="no")["damaged"]
    finally:
        upgrade.cluster.kill()


def check(gateway: GatewayProcess, *, repair: str) -> dict[str, Any]:
    """Every object can be read, and what was damaged is repaired if it is to be; the counts."""
    *_, told = gateway.admin.stream("POST", "/check", repair=repair, resume="")
    assert not told["unreadable"], told
    assert not told["unrepaired"] or repair == "no", told
    return told


def pieces_of_objects(node: Path) -> list[Path]:
    """Those that a node holds, of a running deployment."""
    found = (path for path in (node / "pieces").rglob("*") if path.is_file())
    return [path for path in found if not is_snapshot_name(path.name)]


@pytest.mark.timeout(180)
def test_each_repairs_and_collects_what_the_other_wrote(
    postgres: PostgresServer, tmp_path: Path, old_program: Path
) -> None:
    cluster = Cluster(tmp_path, postgres, asyncio.run(postgres.new_database()), count=2)
    old, new = cluster.gateways
    old.packages = old_program
    try:
        cluster.start()
        for name, writer, reader in (("by-old", old, new), ("by-new", new, old)):
            writer.client().create_bucket(Bucket=name)
            body = os.urandom(2 << 20)
            writer.client().put_object(Bucket=name, Key="large", Body=body)
            for number in range(3):
                writer.client().put_object(Bucket=name, Key=f"small/{number}", Body=os.urandom(9000))
            for piece in pieces_of_objects(cluster.nodes[2]):
                piece.unlink()
            assert reader.client().get_object(Bucket=name, Key="large")["Body"].read() == body
            check(reader, repair="yes")
            assert not check(writer, repair="no")["damaged"]
            assert pieces_of_objects(cluster.nodes[2])
            for key in ("large", "small/0", "small/1", "small/2"):
                reader.client().delete_object(Bucket=name, Key=key)

            def collected() -> bool:
                for gateway in cluster.gateways:
                    for one in ("reclaim", "collection", "compaction"):
                        gateway.admin.call("POST", f"/workers/{one}/run")
                return not any(pieces_of_objects(node) for node in cluster.nodes)

            until(collected, "pieces of nothing are left")
    finally:
        cluster.kill()
