"""`atoll catalog restore` on a machine without a data folder: what can't be restored leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.live_server import LiveServer, live_server


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("site")
    with live_server(folder) as server:
        server.client().create_bucket(Bucket="bucket")
        done = server.command("catalog", "backup", str(folder / "backup"))
        assert done.returncode == 0, done.stderr
    return (folder / "backup").read_bytes()


@pytest.mark.parametrize("part", ["nothing", "text", "half"])
def test_it_makes_no_data_folder(tmp_path: Path, backup: bytes, part: str) -> None:
    source = tmp_path / "source"
    source.write_bytes({"nothing": b"", "text": b"just some text", "half": backup[: len(backup) // 2]}[part])
    site = LiveServer(tmp_path / "site")
    done = site.command("catalog", "restore", str(source))
    assert done.returncode != 0
    assert ("cut short" if part == "half" else "not a catalog backup") in done.stderr
    assert not site.data.exists()


def test_a_good_one_makes_it(tmp_path: Path, backup: bytes) -> None:
    source = tmp_path / "source"
    source.write_bytes(backup)
    site = LiveServer(tmp_path / "site")
    done = site.command("catalog", "restore", str(source))
    assert done.returncode == 0, done.stderr
    assert (site.data / "catalog" / "data.mdb").exists()
