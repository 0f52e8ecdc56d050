"""A gateway as the container and the unit run it: nothing to write to but its data folder, and no capabilities."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.clients.conftest import need
from tests.harness.live_server import LiveServer

#: In a mount namespace of its own: all is read-only but the data folder. Then the gateway, with no capability left.
SCRIPT = """
set -e
mount --make-rprivate /
mount --bind "$DATA" "$DATA"
mount -o remount,bind,ro /
exec setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all --no-new-privs -- "$ATOLL" "$@"
"""


class Confined(LiveServer):
    """`atoll serve --init` where only the data folder can be written."""

    def command_line(self) -> list[str]:
        (self.folder / "key").mkdir(exist_ok=True)
        key = self.folder / "key" / "root.key"
        if not key.exists():
            key.write_text(os.urandom(32).hex())
            key.chmod(0o600)
        self.data.mkdir(exist_ok=True)
        return ["unshare", "-m", "sh", "-c", SCRIPT, "sh", "serve", "--init"]

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "ATOLL_ROOT_KEY_FILE": str(self.folder / "key" / "root.key"),
            "DATA": str(self.data),
            "ATOLL": str(Path(sys.executable).with_name("atoll")),
            "HOME": "/nonexistent",
        }


@pytest.fixture
def confined(tmp_path: Path) -> Confined:
    for tool in ("unshare", "setpriv"):
        need(shutil.which(tool), tool)
    if os.geteuid() != 0:
        pytest.skip("only root can make a namespace with a read-only root")
    return Confined(tmp_path)


def test_it_starts_serves_and_ends_where_only_its_data_folder_can_be_written(confined: Confined) -> None:
    for _ in range(2):
        confined.start()
        try:
            status = Path(f"/proc/{confined.pid}/status").read_text()
            assert "CapEff:\t0000000000000000\n" in status
            mounts = Path(f"/proc/{confined.pid}/mounts").read_text().splitlines()
            assert any(line.split()[1] == "/" and line.split()[3].startswith("ro") for line in mounts)
            client = confined.client()
            client.create_bucket(Bucket="confined")
            client.put_object(Bucket="confined", Key="large", Body=b"x" * 3_000_000)
            assert client.get_object(Bucket="confined", Key="large")["Body"].read() == b"x" * 3_000_000
        finally:
            code = confined.stop()
        assert code == 0, "".join(confined.output)


def test_a_rotation_that_cannot_keep_the_new_root_key_changes_nothing(confined: Confined) -> None:
    confined.start()
    try:
        client = confined.client()
        client.create_bucket(Bucket="confined")
        client.put_object(Bucket="confined", Key="key", Body=b"x" * 10_000)
        rotated = confined.command("keys", "rotate")
        assert rotated.returncode != 0
        assert "Read-only" in rotated.stderr
    finally:
        confined.stop()
    confined.start()
    try:
        assert confined.client().get_object(Bucket="confined", Key="key")["Body"].read() == b"x" * 10_000
        assert confined.command("keys", "export").stdout.strip() == (confined.folder / "key" / "root.key").read_text()
    finally:
        confined.stop()
