"""The lines that a first start shows: pasted into a shell, in any folder, they work."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.clients.conftest import peer
from tests.harness.live_server import LiveServer


def test_the_shown_lines_work_when_pasted(tmp_path: Path) -> None:
    program = peer("awscli", "aws")
    server = LiveServer(tmp_path / "site", env={"ATOLL_ACCESS_KEY_ID": "", "ATOLL_SECRET_ACCESS_KEY": ""})
    try:
        server.start()
        shown = "".join(server.output)
        lines = shown[shown.index("export AWS_ACCESS_KEY_ID") : shown.index("ready http")]
        pasted = "\n".join(line for line in lines.splitlines() if line.startswith(("export", "aws", "echo")))
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment = {
            **inherited,
            "PATH": f"{Path(program).parent}:{os.environ['PATH']}",
            "HOME": str(elsewhere),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        for _ in range(2):  # a second time, too: people do
            done = subprocess.run(
                ["bash", "-e", "-c", pasted], cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stdout + done.stderr
        assert "hello" in done.stdout
    finally:
        server.kill()
