"""`python -m tests.upgrade.make_fixture VERSION`: lets a release's program, whose wheel is in its folder, write the
fixtures of that release (see `releases.py`). Run once, when a release is made."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.harness.gateways import NODES, GatewayProcess
from tests.harness.live_server import LiveServer
from tests.harness.postgres_server import PostgresServer
from tests.upgrade import releases, small_parts
from tests.upgrade.answers import survey, survey_bucket
from tests.upgrade.contents import LATE, Writer, add_users

_COMMAND = [sys.executable, small_parts.__file__, "up"]


class _Embedded(LiveServer):
    def command_line(self) -> list[str]:
        return _COMMAND


def run_worker(server: LiveServer, name: str) -> None:
    done = server.command("worker", "run", name)
    assert done.returncode == 0, done.stdout + done.stderr


def fill(server: LiveServer) -> dict[str, Any]:
    """Write everything; what it answers."""
    add_users(server)
    written = Writer(server).write()
    # Some of the packs compacted, some of what was released collected and some still queued.
    run_worker(server, "compaction")
    run_worker(server, "collection")
    writer = server.client()
    for number in range(4):
        writer.put_object(Bucket="plain", Key="queued", Body=bytes([number]) * 5500)
    writer.delete_object(Bucket="plain", Key="queued")
    answers = survey(server)
    seen = {
        (bucket, version["Key"]): contents["objects"][number]["get"]["Body"]["sha256"]
        for bucket, contents in answers["of"].items()
        for number, version in enumerate(entry for page in contents["listed"] for entry in page.get("Versions", []))
        if version["IsLatest"]
    }
    assert seen == written
    return answers


def leave(server: LiveServer, answers: dict[str, Any]) -> None:
    """Write a little more and kill the program right then, which leaves behind what it does later."""
    for size in (5000, 30_000, 60_000):
        server.client().put_object(Bucket=LATE, Key=f"size/{size}", Body=bytes(size))
    answers["of"][LATE] = survey_bucket(server, LATE)
    server.kill()


def make_embedded(version: str, packages: Path, folder: Path) -> None:
    """The data folder of `atoll up`, and a backup of its catalog."""
    server = _Embedded(folder)
    server.packages = packages
    try:
        server.start()
        answers = fill(server)
        assert server.command("catalog", "backup", "catalog.backup").returncode == 0
        leave(server, answers)
    finally:
        server.kill()
    save(version, "data", folder, ["data", "root.key", "catalog.backup"], answers)


def make_shared(version: str, packages: Path, folder: Path) -> None:
    """The nodes and the database of a gateway on PostgreSQL."""
    postgres = PostgresServer()
    nodes = [folder / "nodes" / str(number) for number in range(1, NODES + 1)]
    try:
        postgres.start()
        database = asyncio.run(postgres.new_database())
        server = GatewayProcess(
            folder / "gateway", catalog=postgres.url(database), root_key=folder / "root.key", nodes=nodes
        )
        server.packages, server.program = packages, _COMMAND
        try:
            server.start()
            answers = fill(server)
            leave(server, answers)
        finally:
            server.kill()
        (folder / "database.sql").write_text(postgres.dump(database))
    finally:
        postgres.close()
    save(version, "shared", folder, ["nodes", "root.key", "database.sql"], answers)


def save(version: str, name: str, folder: Path, names: list[str], answers: dict[str, Any]) -> None:
    target = releases.FOLDER / version
    target.mkdir(parents=True, exist_ok=True)
    releases.pack(folder, names, target / f"{name}.tar.xz")
    (target / f"{name}.json").write_text(json.dumps(answers, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version")
    parser.add_argument("--embedded-only", action="store_true", help="a release that knows no PostgreSQL")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        program = releases.unpack_program(given.version, Path(scratch) / "program")
        make_embedded(given.version, program, Path(scratch) / "embedded")
        if not given.embedded_only:
            make_shared(given.version, program, Path(scratch) / "shared")
