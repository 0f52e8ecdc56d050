"""The operator's commands against a running server, as an operator runs them."""

from __future__ import annotations

import os
import random
import re
import stat
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.cli.cli_support import answer, status, wait_for
from tests.harness.live_server import ROOT_SECRET, LiveServer, live_server

BODY = random.Random(7).randbytes(3 << 20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    # A folder so deep that a socket's path below it is longer than the kernel takes.
    with live_server(tmp_path_factory.mktemp("site") / ("deep" * 20) / ("deeper" * 10)) as one:
        one.client().create_bucket(Bucket="bucket")
        yield one


def test_the_admin_socket_works_below_a_long_path(server: LiveServer) -> None:
    assert len(os.fsencode(server.data / "admin.sock")) > 107
    assert status(server)["endpoint"] == server.url


def test_status_names_nodes_workers_and_warns_of_the_shared_device(server: LiveServer) -> None:
    shown = status(server)
    assert [node["name"] for node in shown["nodes"]] == [f"disk-{n}" for n in range(1, 7)]
    assert all(node["free"] > 0 for node in shown["nodes"])
    assert {"catalog-repack", "collection", "compaction", "health", "recode", "repair"} <= {
        worker["name"] for worker in shown["workers"]
    }
    assert any("share one device" in warning for warning in shown["warnings"])
    plain = server.command("status")
    assert plain.returncode == 0
    assert "disk-6" in plain.stdout
    assert "share one device" in plain.stdout


def test_status_tells_what_atoll_keeps_on_each_node_and_what_is_the_devices(server: LiveServer) -> None:
    server.client().put_object(Bucket="bucket", Key="sized", Body=BODY)
    answer(server, "worker", "run", "tally")
    shown = {node["name"]: node for node in status(server)["nodes"]}
    for number in range(1, 7):
        sizes = [path.stat().st_size for path in (server.nodes / str(number) / "pieces").rglob("[0-9a-e]*-*")]
        node = shown[f"disk-{number}"]
        assert (node["pieces"], node["piece_bytes"]) == (len(sizes), sum(sizes))
        assert sizes
        assert sum(sizes) < node["device_used"] < node["device_total"]
    with urllib.request.urlopen(f"{server.url}/-/metrics", timeout=5) as response:
        assert f'atoll_node_piece_bytes{{node="disk-6"}} {float(sum(sizes))}\n' in response.read().decode()
    plain = server.command("status").stdout
    assert "device used" in plain
    assert re.search(r"disk-6 +│ up +│ [0-9.]+ [KM]iB +│", plain), plain


def test_metrics_tell_of_requests_nodes_workers_and_the_engine(server: LiveServer) -> None:
    server.client().put_object(Bucket="bucket", Key="counted", Body=b"inline")
    with urllib.request.urlopen(f"{server.url}/-/metrics", timeout=5) as response:
        text = response.read().decode()
    assert 'atoll_request_seconds_count{operation="PutObject",status="200"}' in text
    assert 'atoll_engine_events_total{event="bodies_inline"} ' in text
    assert 'atoll_node_up{node="disk-1"} 1.0' in text
    free = re.search(r'^atoll_node_free_bytes\{node="disk-1"\} (\S+)$', text, re.MULTILINE)
    assert free is not None
    assert float(free[1]) > 0
    assert 'atoll_worker_turns_total{worker="health"} ' in text
    assert ROOT_SECRET not in text


def test_users_can_sign_until_they_are_removed(server: LiveServer) -> None:
    user = answer(server, "user", "add", "ann", "--email", "ann@example.org", "--json")
    keys = {"aws_access_key_id": user["access_key_id"], "aws_secret_access_key": user["secret_access_key"]}
    wait_for(lambda: server.client(**keys).list_buckets()["Owner"]["ID"] == user["id"])
    listed = {one["name"]: one for one in answer(server, "user", "list", "--json")}
    assert listed["ann"]["email"] == "ann@example.org"
    assert listed["root"]["declared"]
    assert user["secret_access_key"] not in server.command("user", "list", "--json").stdout
    again = server.command("user", "add", "ann")
    assert (again.returncode, again.stderr) == (1, "atoll: another user has the name 'ann'\n")
    assert server.command("user", "remove", "ann").returncode == 0
    wait_for(lambda: _refused(server, keys))


def _refused(server: LiveServer, keys: dict[str, str]) -> bool:
    try:
        server.client(**keys).list_buckets()
    except ClientError as error:
        return bool(error.response["Error"]["Code"] == "InvalidAccessKeyId")
    return False


def test_export_ends_the_warning_and_rotation_brings_it_back(server: LiveServer) -> None:
    client = server.client()
    client.put_object(Bucket="bucket", Key="sealed", Body=BODY)
    assert any("never exported" in warning for warning in status(server)["warnings"])
    shown = server.command("keys", "export")
    assert shown.stdout.strip() == (server.folder / "root.key").read_text().strip()
    assert not any("never exported" in warning for warning in status(server)["warnings"])
    before = status(server)["root_key"]
    assert server.command("keys", "rotate").returncode == 0
    assert status(server)["root_key"] != before
    assert any("never exported" in warning for warning in status(server)["warnings"])
    user = answer(server, "user", "add", "after-rotation", "--json")
    output = server.folder / "exported.key"
    assert server.command("keys", "export", "--output", str(output)).returncode == 0
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert output.read_text() == (server.folder / "root.key").read_text() != shown.stdout
    assert (server.folder / f"root.key.{before}").read_text().strip() == shown.stdout.strip()
    assert server.stop() == 0
    server.start()
    assert server.client().get_object(Bucket="bucket", Key="sealed")["Body"].read() == BODY
    keys = {"aws_access_key_id": user["access_key_id"], "aws_secret_access_key": user["secret_access_key"]}
    assert server.client(**keys).list_buckets()["Buckets"] == []


def test_backup_restores_what_was_there_and_a_damaged_one_changes_nothing(server: LiveServer) -> None:
    client = server.client()
    client.put_object(Bucket="bucket", Key="before", Body=b"small and in the catalog")
    target = server.folder / "backup"
    assert server.command("catalog", "backup", str(target)).returncode == 0
    assert stat.S_IMODE(target.stat().st_mode) & 0o077 == 0
    assert "exists already" in server.command("catalog", "backup", str(target)).stderr
    assert server.command("catalog", "restore", "--verify-only", str(target)).returncode == 0
    client.put_object(Bucket="bucket", Key="after", Body=b"later")
    refused = server.command("catalog", "restore", str(target))
    assert refused.returncode == 3
    assert "uses the data folder" in refused.stderr
    server.stop()
    damaged = server.folder / "damaged"
    damaged.write_bytes(target.read_bytes()[:-40])
    assert server.command("catalog", "restore", str(damaged)).returncode != 0
    assert not (server.data / "catalog.before-restore").exists()
    done = server.command("catalog", "restore", str(target))
    assert done.returncode == 0, done.stderr
    server.start()
    assert server.client().get_object(Bucket="bucket", Key="before")["Body"].read() == b"small and in the catalog"
    with pytest.raises(ClientError, match="NoSuchKey"):
        server.client().get_object(Bucket="bucket", Key="after")
    accepted = server.command("catalog", "accept")  # else the tests below would find that no space returns
    assert accepted.returncode == 0, accepted.stderr


def test_check_names_damage_and_repairs_it(server: LiveServer) -> None:
    server.client().put_object(Bucket="bucket", Key="to-damage", Body=BODY)
    assert server.command("check").returncode == 0
    pieces = [path for path in (server.nodes / "3" / "pieces").rglob("*") if path.is_file()]
    for path in pieces:
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 3)
            file.write(bytes(byte ^ 1 for byte in b"flipped"))
    for path in (server.nodes / "4" / "pieces").rglob("*"):
        if path.is_file():
            path.unlink()
    time.sleep(1.2)  # a node trusts a file that it has open for a second
    found = server.command("check", "--json")
    assert found.returncode == 4, found.stderr
    assert " on disk-3, stripe " in found.stdout
    assert " on disk-4, stripe 0: missing" in found.stdout
    repaired = answer(server, "check", "--repair", "--json")
    assert repaired["repaired"] == repaired["damaged"] > 0
    assert repaired["unrepaired"] == repaired["unreadable"] == 0
    clean = answer(server, "check", "--json")
    assert (clean["damaged"], clean["damage"]) == (0, [])
    assert status(server)["health"]["state"] == "healthy"
    assert server.client().get_object(Bucket="bucket", Key="to-damage")["Body"].read() == BODY


def test_check_goes_on_from_a_place(server: LiveServer) -> None:
    whole = answer(server, "check", "--json")
    rest = answer(server, "check", "--resume", whole["place"], "--json")
    assert whole["objects"] > 0
    assert (rest["segments"], rest["objects"]) == (0, 0)
    assert "not a place that a check printed" in server.command("check", "--resume", "nonsense").stderr


def test_space_returns_after_deletion_and_a_forced_collection(server: LiveServer) -> None:
    client = server.client()
    server.command("worker", "run", "collection")
    before = stored(server)
    client.put_object(Bucket="bucket", Key="passing", Body=os.urandom(8 << 20))
    assert stored(server) > before + (8 << 20)
    client.delete_object(Bucket="bucket", Key="passing")
    for name in ("reclaim", "collection"):
        answer(server, "worker", "run", name)
    assert stored(server) <= before
    assert "no worker is named colection" in server.command("worker", "run", "colection").stderr
    assert "collection" in server.command("worker", "list").stdout


def stored(server: LiveServer) -> int:
    """Bytes of objects' pieces; those of the catalog's snapshots come and go by themselves."""
    return sum(path.stat().st_size for path in server.nodes.rglob("[0-9a-e]*-*") if path.is_file())


def test_without_a_server_a_command_says_so(tmp_path: Path) -> None:
    server = LiveServer(tmp_path)
    done = server.command("status")
    assert done.returncode == 1
    assert done.stderr.startswith("atoll: no server answers at ")


def test_help_lists_every_command_without_loading_any(tmp_path: Path) -> None:
    server = LiveServer(tmp_path)
    done = server.command("--help")
    for name in ("up", "serve", "status", "check", "user", "keys", "catalog", "worker"):
        assert f"  {name} " in done.stdout
        assert server.command(name, "--help").returncode == 0
