"""What any release has written is served by the tree's program as it was, whatever then becomes of it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from gateway.admin.client import AdminClient
from tests.cli.cli_support import status
from tests.harness.gateways import NODES, GatewayProcess
from tests.harness.live_server import LiveServer, ServerFailed
from tests.harness.postgres_server import PostgresServer
from tests.upgrade import releases
from tests.upgrade.answers import contents_of, differences, survey, survey_contents
from tests.upgrade.contents import LATE, SEGMENT, Writer, client_of

SHARED = [version for version in releases.VERSIONS if (releases.FOLDER / version / "shared.json").exists()]


def run(server: LiveServer, *arguments: str) -> str:
    done = server.command(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sound(server: LiveServer, *, without_nodes: bool = False) -> bool:
    """Whether every object can be read, and every piece too unless nodes are gone."""
    *_, told = AdminClient(server.data).stream("POST", "/check", repair="no", resume="")
    return not told["unreadable"] and (without_nodes or not (told["damaged"] or told["unreachable"]))


def same(expected: Any, found: Any) -> None:
    told = list(differences(expected, found))
    assert not told, f"{len(told)} differences: {told[:10]}"


@pytest.mark.parametrize("version", releases.VERSIONS)
def test_a_data_folder_is_taken_over(version: str, tmp_path: Path) -> None:
    expected = releases.unpack(version, "data", tmp_path)
    server = LiveServer(tmp_path)
    try:
        server.start()
        same(expected, survey(server))
        assert sound(server)
        go_on(server)
        for worker in ("compaction", "reclaim", "collection", "snapshots"):
            AdminClient(server.data).call("POST", f"/workers/{worker}/run")
        # What the release wrote also outlives a crash, a rotation of keys and two of its nodes.
        server.kill()
        for node in ("2", "5"):
            shutil.rmtree(server.nodes / node)
        server.start()
        run(server, "keys", "rotate")
        same(contents_of(expected), survey_contents(server))
        finish_what_was_under_way(server, expected)
        assert sound(server, without_nodes=True)
    finally:
        server.kill()


def go_on(server: LiveServer) -> None:
    """Write beside what is there, and take from it what copies still need."""
    client = server.client()
    client.create_bucket(Bucket="new")
    client.put_bucket_versioning(Bucket="new", VersioningConfiguration={"Status": "Enabled"})
    writer = Writer(server)
    for size in (100, 10_000, SEGMENT):
        writer.put("new", f"size/{size}", size)
    for source in ("multipart", f"size/{SEGMENT}", "headers"):
        client.copy_object(Bucket="new", Key=f"copy/{source}", CopySource={"Bucket": "plain", "Key": source})
    client.delete_object(Bucket="new", Key="copy/multipart")
    run(server, "user", "add", "carol")
    owned = len(client_of(server, "alice").list_buckets()["Buckets"])
    run(server, "user", "quota", "alice", "--buckets", str(owned + 1))
    client_of(server, "alice").put_object(Bucket="shared", Key="later", Body=b"x")
    client.delete_object(Bucket="shared", Key="later")


def finish_what_was_under_way(server: LiveServer, expected: Any) -> None:
    client = server.client()
    (upload,) = [parts for parts in expected["of"]["plain"]["parts"] if parts.get("Parts")]
    last = upload["Parts"][-1]
    body = os.urandom(5 << 20)
    named = {"Bucket": "plain", "Key": upload["Key"], "UploadId": upload["UploadId"]}
    first = client.upload_part(**named, PartNumber=1, Body=body)
    parts = [{"PartNumber": 1, "ETag": first["ETag"]}, {"PartNumber": last["PartNumber"], "ETag": last["ETag"]}]
    client.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})
    made = client.get_object(Bucket="plain", Key=upload["Key"])
    whole = made["Body"].read()
    assert whole[: 5 << 20] == body
    assert len(whole) == len(body) + last["Size"]
    assert made["ContentType"] == "text/plain"
    for key in ("size/30000", f"size/{SEGMENT}", "multipart"):
        client.delete_object(Bucket="plain", Key=key)
    copies = {
        one["get"]["Body"]["sha256"]
        for page, one in zip_versions(expected["of"]["plain"])
        if page["Key"].startswith("copy/")
    }
    read = (client.get_object(Bucket="plain", Key=entry["Key"])["Body"].read() for entry in listed(client, "copy/"))
    assert {hashlib.sha256(body).hexdigest() for body in read} == copies


def zip_versions(bucket: Any) -> Any:
    return zip((one for page in bucket["listed"] for one in page.get("Versions", [])), bucket["objects"], strict=True)


def listed(client: Any, prefix: str) -> Any:
    return client.list_objects_v2(Bucket="plain", Prefix=prefix)["Contents"]


@pytest.mark.parametrize("version", releases.VERSIONS)
def test_a_backup_is_restored(version: str, tmp_path: Path) -> None:
    expected = releases.unpack(version, "data", tmp_path)
    del expected["of"][LATE]  # came after the backup
    server = LiveServer(tmp_path)
    shutil.rmtree(server.data / "catalog")
    run(server, "catalog", "restore", "catalog.backup")
    try:
        server.start()
        same(contents_of(expected), survey_contents(server))
        run(server, "catalog", "accept")
    finally:
        server.kill()


@pytest.mark.parametrize("version", SHARED)
def test_a_database_is_taken_over(version: str, postgres: PostgresServer, tmp_path: Path) -> None:
    expected = releases.unpack(version, "shared", tmp_path)
    database = asyncio.run(postgres.new_database())
    asyncio.run(postgres.execute(database, (tmp_path / "database.sql").read_text()))
    server = GatewayProcess(
        tmp_path / "gateway",
        catalog=postgres.url(database),
        root_key=tmp_path / "root.key",
        nodes=[tmp_path / "nodes" / str(number) for number in range(1, NODES + 1)],
    )
    try:
        server.start()
        same(expected, survey(server))
        assert sound(server)
    finally:
        server.kill()


def test_the_previous_release_takes_a_data_folder_back(tmp_path: Path) -> None:
    """What the tree's program has written since, and what it has changed, is served by the release before."""
    expected = releases.unpack(releases.PREVIOUS, "data", tmp_path)
    server = LiveServer(tmp_path)
    try:
        server.start()
        go_on(server)
        there = survey_contents(server)
        server.stop()
        server.packages = releases.unpack_program(releases.PREVIOUS, tmp_path / "program")
        server.start()
        assert status(server)["version"] == releases.PREVIOUS
        same(contents_of(expected), there)
        same(there, survey_contents(server))
        run(server, "check")
        # A quota means nothing to it. What it makes counts when it has gone.
        alice = client_of(server, "alice")
        alice.create_bucket(Bucket="within")
        alice.create_bucket(Bucket="beyond")
        run(server, "user", "remove", "carol")
        server.stop()
        server.packages = None
        server.start()
        with pytest.raises(ClientError, match="TooManyBuckets"):
            alice.create_bucket(Bucket="later")
        alice.delete_bucket(Bucket="beyond")
        alice.delete_bucket(Bucket="within")
        alice.create_bucket(Bucket="later")
    finally:
        server.kill()


def test_a_release_that_would_misunderstand_refuses(tmp_path: Path) -> None:
    """0.1.0 knows nothing of nodes that have rows."""
    releases.unpack("0.1.0", "data", tmp_path)
    server = LiveServer(tmp_path)
    try:
        server.start()
        server.stop()
        server.packages = releases.unpack_program("0.1.0", tmp_path / "program")
        with pytest.raises(ServerFailed, match=r"exit 3(.|\n)*uses features that this program does not know"):
            server.start()
    finally:
        server.kill()
