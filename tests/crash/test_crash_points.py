"""`kill -9` under mixed load: what was acknowledged is there, what was not is wholly there or wholly absent.

Every named point is hit with requests under way. After each crash the answers of all clients, before and after it,
must fit one order of the operations on each key; in the end nothing is stored but what is live.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.rig import Rig

FOREGROUND = ("pieces-written", "before-commit", "after-commit", "before-reply")
SETTLING = ("settling-written", "settling-born", "settling-moved")
COMPACTION = ("compaction-written", "compaction-born", "compaction-moved", "compaction-retired")
COLLECTION = ("collection-bodies", "collection-segments", "collection-pieces", "collection-epoch")
ROTATION = ("rotation-started", "rotation-batch", "rotation-wrapped", "rotation-switched", "rotation-kept")
SNAPSHOTS = ("snapshot-base", "snapshot-changes", "snapshot-verified", "snapshot-changed-over", "snapshot-retired")
#: Of a command, killed there in tests/snapshots.
RESTORE = ("restore-written",)
#: Of a catalog that is copied, killed there in tests/catalog_copy.
COPIES = tuple(f"copy-{stage}" for stage in ("run", "claimed", "copied", "compared", "settled", "moved", "retired"))
#: How many times a point of the foreground may be passed under load before the process dies there.
SPREAD = 40
#: The same of changes in snapshots, of which there are so many a second that a new base follows every few seconds: the
#: other points of snapshots are passed once for each of those.
CHANGES_SPREAD = 3
OFTEN = {"ATOLL_SNAPSHOTS_EVERY": "200ms", "ATOLL_SNAPSHOTS_RETENTION": "2s"}
ROOMS = Path(__file__).resolve().parents[2]


def provoker(rig: Rig, point: str) -> Callable[[], None] | None:
    """What makes the background work happen that holds the crash point; the foreground needs none."""

    def settle() -> None:
        rig.admin("POST", "/workers/settling/run")

    def compact() -> None:
        settle()
        rig.admin("POST", "/workers/compaction/run")

    def collect() -> None:
        rig.admin("POST", "/workers/reclaim/run")
        rig.admin("POST", "/workers/collection/run")

    kind = point.partition("-")[0]
    return {"settling": settle, "compaction": compact, "collection": collect, "rotation": rig.rotate}.get(kind)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("point", [*FOREGROUND, *SETTLING, *COMPACTION, *COLLECTION, *ROTATION, *SNAPSHOTS])
def test_crash_point(point: str, tmp_path: Path, hits: int, figure: Callable[[str], None]) -> None:
    rig = Rig(tmp_path, point)
    away, node = tmp_path / "away", rig.server.nodes / "6"
    provoke = provoker(rig, point)
    spread = 1 if provoke else SPREAD
    if point in SNAPSHOTS:
        rig.environment, spread = OFTEN, CHANGES_SPREAD if point == "snapshot-changes" else 1
    if point == "collection-epoch":
        rig.start()
        rig.server.stop()
    for _ in range(hits):
        if point == "collection-epoch":
            # The epoch of the process before is collected once every node was looked through: not before load is on.
            node.rename(away)
        rig.start(point, rig.seeded.randint(1, spread))
        if away.exists():
            away.rename(node)
        rig.crash(point, provoke)
    rig.start()
    rig.finish()
    figure(rig.figures())
    assert rig.crashes == hits
    assert rig.history.acknowledged > 20 * hits


@pytest.mark.timeout(900)
def test_killed_at_random_instants(tmp_path: Path, hits: int, figure: Callable[[str], None]) -> None:
    rig = Rig(tmp_path, "instants")
    for _ in range(2 * hits):
        rig.start()
        with rig.load(threads=8):
            time.sleep(rig.seeded.uniform(0.1, 1.5))
            rig.server.kill()
        rig.crashes += 1
    rig.start()
    rig.finish()
    rig.start()
    rig.finish_empty()
    figure(rig.figures())
    assert rig.cut_off > 2 * hits


@pytest.mark.parametrize("rule", ["waiting", "orphans"])
def test_a_rule_that_is_left_out_is_found(tmp_path: Path, rule: str) -> None:
    """The tests above can fail: for a server that answers before its commit is durable, or leaves pieces behind."""
    rig = Rig(tmp_path, rule)
    rig.start()
    rig.server.stop()
    # In one process: a guest that is told too early what is durable breaks in other ways.
    rig.environment = {"PYTHONPATH": str(Path(__file__).parent / "careless"), "LEFT_OUT": rule, "ATOLL_PROCESSES": "1"}
    found = {"waiting": "no order explains|NoSuchKey|NoSuchUpload", "orphans": "leaked: node"}[rule]
    with pytest.raises(AssertionError, match=found):  # noqa: PT012
        for _ in range(4):  # one alone may hit while only bodies without pieces are under way
            rig.start("pieces-written", 10)
            rig.crash("pieces-written", None)
        rig.start()
        rig.finish()
    rig.server.kill()


def test_every_point_of_the_program_is_tested() -> None:
    """A point that somebody adds or renames does not go untested."""
    named = set()
    for room in ("accounts", "backends", "catalog", "engine", "gateway"):
        for path in (ROOMS / room).rglob("*.py"):
            named.update(re.findall(r'\breach\("([a-z-]+)"\)', path.read_text()))
    assert named == {*FOREGROUND, *SETTLING, *COMPACTION, *COLLECTION, *ROTATION, *SNAPSHOTS, *RESTORE, *COPIES}
