"""`kill -9` under load on a bucket with versioning.

Every acknowledged version is there by its id with its bytes, in its place among the others, and no acknowledged delete
marker or deletion of a version is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.rig import VersionedRig
from tests.crash.test_crash_points import COLLECTION, COMPACTION, FOREGROUND, SETTLING, SPREAD, provoker

POINTS = (*FOREGROUND, *(point for point in (*SETTLING, *COMPACTION, *COLLECTION) if point != "collection-epoch"))
#: Those that versions have most to do with: all that the ordinary suite has time for, and once each.
REDUCED = ("after-commit", "compaction-moved", "collection-bodies")


@pytest.mark.timeout(300)
def test_versions_survive(tmp_path: Path, hits: int, soak: bool, figure: Callable[[str], None]) -> None:
    rig = VersionedRig(tmp_path, "versions")
    turns = [(point, hits) for point in POINTS] if soak else [(point, 1) for point in REDUCED]
    for point, times in turns:
        provoke = provoker(rig, point)
        for _ in range(times):
            rig.start(point, 1 if provoke else rig.seeded.randint(1, SPREAD))
            rig.crash(point, provoke)
        rig.start()
        rig.finish()
    rig.start()
    rig.finish_empty()
    figure(rig.figures())
    crashes = sum(times for _, times in turns)
    assert rig.crashes == crashes
    assert rig.history.acknowledged > 20 * crashes
