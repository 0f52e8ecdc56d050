"""A gateway's machine is lost with its disk; nodes and the exported root key are left. Real servers and commands."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from gateway.admin.client import AdminClient, NotRunning, Refused
from tests.harness.live_server import LiveServer
from tests.snapshots.waiting import wait_for, wait_for_snapshot

EVERY = {"ATOLL_SNAPSHOTS_EVERY": "500ms"}
MIB = 1 << 20


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Lost:
    """What is left, and what was acknowledged before the recovery point."""

    nodes: Path
    key: Path
    objects: dict[tuple[str, str, str], str] = field(default_factory=dict)  # (bucket, key, version) → SHA-256
    latest: dict[tuple[str, str], str | None] = field(default_factory=dict)  # None: a delete marker
    user: dict[str, Any] = field(default_factory=dict)

    def copy(self, target: Path) -> Lost:
        shutil.copytree(self.nodes, target)
        return Lost(target, self.key, self.objects, self.latest, self.user)

    def arguments(self) -> list[str]:
        named = [part for node in sorted(self.nodes.iterdir()) for part in ("--node", str(node))]
        return ["restore", *named, "--root-key", str(self.key)]


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Lost:
    base = tmp_path_factory.mktemp("lost")
    server = LiveServer(base / "machine", env=EVERY).start()
    try:
        found = Lost(base / "nodes", base / "exported.key")
        _fill(server, found)
        wait_for_snapshot(server)
        exported = server.command("keys", "export")
        found.key.write_text(exported.stdout.strip().splitlines()[-1] + "\n")
        wait_for_snapshot(server)
    finally:
        server.kill()
    shutil.move(server.nodes, found.nodes)
    shutil.rmtree(server.folder)
    return found


def _fill(server: LiveServer, found: Lost) -> None:
    client = server.client()
    client.create_bucket(Bucket="plain")
    client.create_bucket(Bucket="versions", ACL="public-read")
    client.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    bodies = {f"inline-{number}": os.urandom(number * 40) for number in range(20)}
    bodies |= {f"packed-{number}": os.urandom(5000 + number * 7919) for number in range(20)}
    bodies["large"] = os.urandom(5 * MIB + 12345)
    for key, body in bodies.items():
        client.put_object(Bucket="plain", Key=key, Body=body, Metadata={"name": key})
        found.latest["plain", key] = digest(body)
    upload = client.create_multipart_upload(Bucket="plain", Key="multipart")["UploadId"]
    parts = [os.urandom(5 * MIB), os.urandom(100_000)]
    done = [
        client.upload_part(Bucket="plain", Key="multipart", UploadId=upload, PartNumber=number, Body=part)["ETag"]
        for number, part in enumerate(parts, 1)
    ]
    listed = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(done, 1)]
    client.complete_multipart_upload(
        Bucket="plain", Key="multipart", UploadId=upload, MultipartUpload={"Parts": listed}
    )
    found.latest["plain", "multipart"] = digest(b"".join(parts))
    for number in range(4):
        body = os.urandom(3000 * number)
        version = client.put_object(Bucket="versions", Key="key", Body=body)["VersionId"]
        found.objects["versions", "key", version] = digest(body)
    client.delete_object(Bucket="versions", Key="key")
    found.latest["versions", "key"] = None
    client.put_object_tagging(Bucket="plain", Key="large", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    added = server.command("user", "add", "someone", "--json")
    found.user = json.loads(added.stdout)
    assert server.command("user", "quota", "someone", "--buckets", "0").returncode == 0


def verify(server: LiveServer, lost: Lost) -> None:
    """All that was acknowledged is there, byte by byte."""
    client = server.client()
    for (bucket, key, version), expected in lost.objects.items():
        answer = client.get_object(Bucket=bucket, Key=key, VersionId=version)
        assert digest(answer["Body"].read()) == expected
    for (bucket, key), latest in lost.latest.items():
        if latest is None:
            with pytest.raises(ClientError, match="NoSuchKey"):
                client.get_object(Bucket=bucket, Key=key)
        else:
            answer = client.get_object(Bucket=bucket, Key=key)
            assert digest(answer["Body"].read()) == latest
            assert answer["Metadata"] in ({}, {"name": key})
    assert client.get_object_tagging(Bucket="plain", Key="large")["TagSet"] == [{"Key": "a", "Value": "b"}]
    listed = client.list_object_versions(Bucket="versions")
    assert len(listed["Versions"]) == 4
    assert len(listed["DeleteMarkers"]) == 1
    grants = client.get_bucket_acl(Bucket="versions")["Grants"]
    assert any("AllUsers" in grant["Grantee"].get("URI", "") for grant in grants)
    someone = server.client(
        aws_access_key_id=lost.user["access_key_id"], aws_secret_access_key=lost.user["secret_access_key"]
    )
    assert someone.list_buckets()["Buckets"] == []
    with pytest.raises(ClientError, match="TooManyBuckets"):
        someone.create_bucket(Bucket="refused")


def test_all_of_it_is_back_on_another_machine(lost: Lost, tmp_path: Path) -> None:
    left = lost.copy(tmp_path / "nodes")
    server = LiveServer(tmp_path / "machine", env=EVERY)
    restored = server.command(*left.arguments(), "--json")
    assert restored.returncode == 0, restored.stderr
    told = json.loads(restored.stdout)
    assert told["warnings"] == []
    server.start()
    try:
        verify(server, left)
        assert server.command("check").returncode == 0
        assert "atoll catalog accept" in server.command("status").stdout
        server.client().put_object(Bucket="plain", Key="after", Body=b"x" * 20_000)
        assert server.command("catalog", "accept").returncode == 0
        for worker in ("settling", "reclaim", "collection", "compaction", "collection"):
            assert server.command("worker", "run", worker).returncode == 0
        verify(server, left)
        wait_for_snapshot(server)
    finally:
        server.kill()


def test_with_two_nodes_gone_too(lost: Lost, tmp_path: Path) -> None:
    left = lost.copy(tmp_path / "nodes")
    for number in ("2", "5"):
        shutil.rmtree(left.nodes / number)
    server = LiveServer(tmp_path / "machine", env=EVERY)
    restored = server.command(*left.arguments())
    assert restored.returncode == 0, restored.stderr
    assert "node disk-2 is not among the folders" in restored.stderr
    server.start()
    try:
        verify(server, left)
    finally:
        server.kill()


def test_in_place_where_only_the_catalog_is_gone(lost: Lost, tmp_path: Path) -> None:
    server = LiveServer(tmp_path / "machine", env=EVERY)
    left = lost.copy(server.nodes)
    (server.data / "catalog").mkdir()  # where a disk was mounted
    with socket.socket(socket.AF_UNIX) as admin:  # what a killed server leaves
        admin.bind(str(server.data / "admin.sock"))
    refused = server.command("up")
    assert "atoll restore" in refused.stderr
    restored = server.command("restore", "--root-key", str(left.key))
    assert restored.returncode == 0, restored.stderr
    server.start()
    try:
        verify(server, left)
    finally:
        server.kill()


def test_a_restore_that_is_killed_is_simply_run_again(lost: Lost, tmp_path: Path) -> None:
    server = LiveServer(tmp_path / "machine", env={**EVERY, "ATOLL_CRASH_POINT": "restore-written"})
    left = lost.copy(server.nodes)
    killed = server.command("restore", "--root-key", str(left.key))
    assert killed.returncode == -9
    assert not (server.data / "catalog").exists()
    del server.extra["ATOLL_CRASH_POINT"]
    restored = server.command("restore", "--root-key", str(left.key))
    assert restored.returncode == 0, restored.stderr
    assert not (server.data / "catalog.restoring").exists()
    server.start()
    try:
        verify(server, left)
    finally:
        server.kill()


def test_the_access_key_that_the_first_start_made_is_back(tmp_path: Path) -> None:
    """It was never in the settings: who lost the machine lost the file that held it."""
    made = {**EVERY, "ATOLL_ACCESS_KEY_ID": "", "ATOLL_SECRET_ACCESS_KEY": ""}
    server = LiveServer(tmp_path / "machine", env=made).start()
    try:
        printed = re.findall(r"export AWS_(?:SECRET_)?ACCESS_KEY(?:_ID)?=(\S+)", "".join(server.output))
        key, secret = printed
        client = server.client(aws_access_key_id=key, aws_secret_access_key=secret)
        client.create_bucket(Bucket="mine")
        wait_for_snapshot(server)
    finally:
        server.kill()
    left = Lost(tmp_path / "nodes", server.folder / "root.key")
    shutil.move(server.nodes, left.nodes)
    again = LiveServer(tmp_path / "again", env=made)
    restored = again.command(*left.arguments())
    assert restored.returncode == 0, restored.stderr
    again.start()
    try:
        client = again.client(aws_access_key_id=key, aws_secret_access_key=secret)
        assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["mine"]
        assert "shown this once" not in "".join(again.output)
    finally:
        again.kill()


def test_what_is_refused(lost: Lost, tmp_path: Path) -> None:
    server = LiveServer(tmp_path / "machine", env=EVERY)
    wrong = tmp_path / "wrong.key"
    wrong.write_text("00" * 32)
    arguments = lost.arguments()
    refused = server.command(*arguments[:-1], str(wrong))
    assert refused.returncode == 3
    assert "under another root key" in refused.stderr
    assert not (server.data / "catalog").exists()
    late = server.command(*arguments, "--not-before", "2100-01-01T00:00:00")
    assert late.returncode == 3
    assert "too old" in late.stderr
    early = server.command(*arguments, "--not-after", "2000-01-01T00:00:00")
    assert early.returncode == 3
    assert "none is that old" in early.stderr
    none = server.command("restore", "--node", str(tmp_path), "--root-key", str(lost.key))
    assert none.returncode == 3
    assert "no node's folder" in none.stderr
    with_files = LiveServer(tmp_path / "other", env=EVERY)
    with_files.data.mkdir()
    (with_files.data / "precious").write_text("mine")
    full = with_files.command(*arguments)
    assert full.returncode == 3
    assert "is not empty" in full.stderr
    other = LiveServer(tmp_path / "running", env=EVERY).start()
    try:
        running = server.command("restore", "--node", str(other.nodes / "1"), "--root-key", str(lost.key))
    finally:
        other.kill()
    assert running.returncode == 3
    assert "in use by another process; stop it first" in running.stderr
    mixed = server.command("restore", "--node", str(other.nodes / "1"), *arguments[1:])
    assert mixed.returncode == 3
    assert "more than one deployment" in mixed.stderr


@pytest.mark.timeout(300)
def test_nothing_that_the_newest_snapshot_names_is_deleted(tmp_path: Path, rounds: int) -> None:
    """Overwrites, deletions, compaction and collection while snapshots lag; the machine is lost at any instant."""
    server = LiveServer(tmp_path / "0", env={**EVERY, "ATOLL_SNAPSHOTS_EVERY": "2s"}).start()
    server.client().create_bucket(Bucket="bucket")
    nodes = server.nodes
    for number in range(1, 2 * rounds + 1):
        _churn(server, seconds=6.0)
        left = Lost(tmp_path / f"nodes-{number}", tmp_path / f"{number}.key")
        shutil.copy(server.folder / "root.key", left.key)
        shutil.move(nodes, left.nodes)
        shutil.rmtree(server.folder)
        server, nodes = LiveServer(tmp_path / str(number), env=server.extra), left.nodes
        restored = server.command(*left.arguments())
        assert restored.returncode == 0, restored.stderr
        server.start()
        checked = server.command("check", "--json")
        assert checked.returncode == 0, checked.stdout
        assert json.loads(checked.stdout)["objects"] > 0
        assert server.command("catalog", "accept").returncode == 0
    server.kill()


def _churn(server: LiveServer, *, seconds: float) -> None:
    """Load and background work for so long and through some points, then SIGKILL amid it."""
    stop = threading.Event()

    def write(place: int) -> None:
        client, number = server.client(), 0
        while not stop.is_set():
            try:
                key = f"{place}-{number % 25}"
                client.put_object(Bucket="bucket", Key=key, Body=os.urandom(20_000 if number % 9 else 1_500_000))
                if number % 3 == 0:
                    client.delete_object(Bucket="bucket", Key=f"{place}-{(number + 7) % 25}")
            except Exception:
                if not stop.is_set():
                    time.sleep(0.01)
            number += 1

    def work() -> None:
        admin = AdminClient(server.data)
        while not stop.is_set():
            for worker in ("settling", "reclaim", "compaction"):
                try:
                    admin.call("POST", f"/workers/{worker}/run")
                except (NotRunning, Refused):
                    return
            time.sleep(0.2)

    threads = [threading.Thread(target=write, args=(place,)) for place in range(2)] + [threading.Thread(target=work)]
    for thread in threads:
        thread.start()
    try:
        until = time.monotonic() + seconds
        first = wait_for(server, lambda shown: shown["exists"])["sequence"]
        wait_for(server, lambda shown: shown["sequence"] > first + 20)
        time.sleep(max(0.0, until - time.monotonic()))
    finally:
        stop.set()
        server.kill()
    for thread in threads:
        thread.join()
