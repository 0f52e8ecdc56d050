"""After `catalog restore`: what the operator is told, and how the restore is undone or accepted."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from tests.cli.cli_support import answer, status
from tests.harness.live_server import live_server

BODY = random.Random(11).randbytes(3 << 20)


def test_a_wrong_restore_can_be_undone_and_a_right_one_accepted(tmp_path: Path) -> None:
    with live_server(tmp_path) as server:
        server.client().create_bucket(Bucket="bucket")
        assert "not a restored one" in server.command("catalog", "accept").stderr
        target = server.folder / "backup"
        assert server.command("catalog", "backup", str(target)).returncode == 0
        server.client().put_object(Bucket="bucket", Key="after", Body=BODY)
        server.stop()
        done = server.command("catalog", "restore", str(target))
        assert "atoll catalog accept" in done.stdout
        server.start()
        assert answer(server, "worker", "run", "collection")["counters"]["pieces"] == 0
        assert any("atoll catalog accept" in warning for warning in status(server)["warnings"])
        server.stop()
        shutil.rmtree(server.data / "catalog")
        (server.data / "catalog.before-restore").rename(server.data / "catalog")
        server.start()
        assert server.client().get_object(Bucket="bucket", Key="after")["Body"].read() == BODY
        assert not any("accept" in warning for warning in status(server)["warnings"])
        server.stop()
        assert server.command("catalog", "restore", str(target)).returncode == 0
        server.start()
        accepted = server.command("catalog", "accept")
        assert accepted.returncode == 0, accepted.stderr
        assert not any("accept" in warning for warning in status(server)["warnings"])
        assert answer(server, "worker", "run", "collection")["counters"]["pieces"] == 6
        assert "accepted before" in server.command("catalog", "accept").stderr
