"""Starting and ending: what the first start makes, and every state in which a start refuses with one sentence."""

from __future__ import annotations

import re
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.cli_support import status, wait_for
from tests.harness.live_server import LiveServer, ServerFailed, free_port, live_server

BAD_USER = '[[users]]\nname = "x y "\naccess_key_id = "abc"\nsecret_access_key = "a"\n'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with live_server(tmp_path / "site") as one:
        yield one


def refusal(server: LiveServer, code: int = 3, env: dict[str, str] | None = None) -> str:
    """Start, expect the exit code and a single sentence instead of a traceback; the sentence."""
    with pytest.raises(ServerFailed, match=f"exit {code}\n") as caught:
        server.start(env=env)
    text = str(caught.value)
    assert "Traceback" not in text
    said = [line for line in text.splitlines() if line.startswith("atoll: ")]
    assert len(said) == 1, text
    return said[0]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_first_start_makes_private_files_and_shows_the_key_once(tmp_path: Path) -> None:
    unset = {"ATOLL_ACCESS_KEY_ID": "", "ATOLL_SECRET_ACCESS_KEY": "", "ATOLL_ROOT_KEY_FILE": "../keys/root.key"}
    server = LiveServer(tmp_path / "site", env=unset)
    try:
        server.start()
        shown = "".join(server.output)
        key = re.search(r"export AWS_ACCESS_KEY_ID=(\S+)\nexport AWS_SECRET_ACCESS_KEY=(\S+)\n", shown)
        assert key is not None, shown
        assert f"export AWS_ENDPOINT_URL={server.url}\n" in shown
        client = server.client(aws_access_key_id=key[1], aws_secret_access_key=key[2])
        client.create_bucket(Bucket="first")
        assert mode(server.data) == 0o700
        for name in ("credentials", "admin.sock", "lock"):
            assert mode(server.data / name) & 0o077 == 0, name
        assert mode(tmp_path / "keys" / "root.key") == 0o600
        assert sorted(path.name for path in server.nodes.iterdir()) == ["1", "2", "3", "4", "5", "6"]
        assert server.stop() == 0
        server.start()
        assert key[2] not in "".join(server.output)
        assert [b["Name"] for b in client.list_buckets()["Buckets"]] == ["first"]
    finally:
        server.kill()


def test_a_second_process_on_the_same_folder_is_refused(server: LiveServer) -> None:
    other = LiveServer(server.folder)
    assert f"another process (pid {server.pid}) uses the data folder" in refusal(other)
    assert server.client().list_buckets()["Buckets"] == []


def test_wrong_and_missing_root_keys_are_refused(server: LiveServer, tmp_path: Path) -> None:
    server.client().create_bucket(Bucket="kept")
    server.stop()
    key = server.folder / "root.key"
    right = key.read_bytes()
    key.write_text("00" * 32)
    assert "is not the root key of this deployment" in refusal(server)
    key.write_text("nonsense")
    assert "holds no root key" in refusal(server)
    key.unlink()
    assert f"the root key file {key} is missing" in refusal(server)
    key.write_bytes(right)
    key.chmod(0o644)
    assert f"run: chmod 600 {key}" in refusal(server)
    key.chmod(0o600)
    server.start()
    assert [b["Name"] for b in server.client().list_buckets()["Buckets"]] == ["kept"]


def test_a_corrupt_or_missing_catalog_is_refused(server: LiveServer) -> None:
    server.stop()
    catalog = server.data / "catalog"
    copy = server.folder / "copy"
    shutil.copytree(catalog, copy)
    largest = max(catalog.iterdir(), key=lambda path: path.stat().st_size)
    with largest.open("r+b") as file:
        file.write(b"\xff" * 16384)
    refusal(server)
    shutil.rmtree(catalog)
    assert "holds nodes but" in refusal(server)
    shutil.copytree(copy, catalog)
    server.start()


def test_an_unmounted_node_folder_is_down_not_recreated_and_returns(server: LiveServer) -> None:
    client = server.client()
    client.create_bucket(Bucket="bucket")
    body = bytes(range(256)) * 8192
    client.put_object(Bucket="bucket", Key="k", Body=body)
    server.stop()
    away = [server.folder / "away2", server.folder / "away5"]
    for number, place in zip((2, 5), away, strict=True):
        (server.nodes / str(number)).rename(place)
    (server.nodes / "5").mkdir()  # the empty mount point
    server.start()
    assert sorted(path.name for path in server.nodes.iterdir()) == ["1", "3", "4", "5", "6"]
    assert list((server.nodes / "5").iterdir()) == []
    nodes = status(server)["nodes"]
    assert [node["name"] for node in nodes if not node["up"]] == ["disk-2", "disk-5"]
    assert server.client().get_object(Bucket="bucket", Key="k")["Body"].read() == body
    (server.nodes / "5").rmdir()
    for number, place in zip((2, 5), away, strict=True):
        place.rename(server.nodes / str(number))
    wait_for(lambda: all(node["up"] for node in status(server)["nodes"]))


def test_serve_refuses_a_folder_without_a_deployment(tmp_path: Path) -> None:
    server = LiveServer(tmp_path / "site")
    done = server.command("serve")
    assert (done.returncode, "is its disk mounted?" in done.stderr) == (3, True)
    server.data.mkdir()
    done = server.command("serve")
    assert done.returncode == 3
    assert "holds no deployment" in done.stderr
    assert not (server.data / "catalog").exists()


def test_settings_that_cannot_be_used_end_with_code_2(tmp_path: Path) -> None:
    server = LiveServer(tmp_path / "site", config="lisen = '127.0.0.1:1'\n")
    assert "unknown key lisen, did you mean listen?" in refusal(server, 2)
    server = LiveServer(tmp_path / "clash", config=BAD_USER)
    assert "users[0]: name must be 1 to 128 printable characters" in refusal(server, 2)
    assert not server.data.exists()


def test_a_port_in_use_is_refused_and_nothing_stays_locked(server: LiveServer, tmp_path: Path) -> None:
    other = LiveServer(tmp_path / "other", env={"ATOLL_LISTEN": f"127.0.0.1:{server.port}"})
    assert "the address is in use" in refusal(other)
    other.start(env={"ATOLL_LISTEN": f"127.0.0.1:{free_port()}"})
    other.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_the_server_with_code_0(tmp_path: Path, number: signal.Signals) -> None:
    server = LiveServer(tmp_path / "site").start()
    assert server._process is not None
    server._process.send_signal(number)
    assert server.wait(10) == 0
    assert not (server.data / "admin.sock").exists()
