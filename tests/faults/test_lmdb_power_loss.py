"""LMDB on the lossy folder: its own promise holds there, and a run without its syncs is caught.

This proves the layer for the catalog's tests: mapped reads, writes through descriptors, O_DSYNC meta pages.
"""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest

from tests.faults.lossy.folder import LossyFolder

ROWS = 12


def commit_until_cut(path: Path, *, sync: bool) -> int:
    """Commit rows 0, 1, 2… each in a transaction of its own; returns how many commits returned."""
    done = 0
    try:
        environment = lmdb.open(str(path), map_size=1 << 24, sync=sync)
        for number in range(ROWS):
            with environment.begin(write=True) as txn:
                txn.put(b"%04d" % number, b"value %d " % number * 200)
            done += 1
    except (lmdb.Error, OSError):
        pass
    return done


def rows(path: Path) -> int:
    """How many rows there are; they must be the first ones, whole."""
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin() as txn:
        found = list(txn.cursor())
    assert found == [(b"%04d" % number, b"value %d " % number * 200) for number in range(len(found))]
    return len(found)


def prepared(path: Path) -> LossyFolder:
    lossy = LossyFolder(path)
    lossy.mount()
    (lossy.path / "db").mkdir()
    with lmdb.open(str(lossy.path / "db"), map_size=1 << 24):
        pass
    lossy.unmount()  # an orderly end of the set-up
    return lossy


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_commits_survive_a_cut_at_any_instant(tmp_path: Path, keep: float) -> None:
    seen = set()
    for instant in range(2, 40, 3):
        with prepared(tmp_path / f"disk{instant}") as lossy:
            lossy.mount(cut_after=instant)
            done = commit_until_cut(lossy.path / "db", sync=True)
            lossy.cut_power(keep=keep, torn=True, seed=instant)
            lossy.mount()
            assert done <= rows(lossy.path / "db") <= done + 1
            seen.add(done)
    assert len(seen) > 4, "the cuts must fall among the commits"


def test_commits_without_sync_are_lost(tmp_path: Path) -> None:
    with prepared(tmp_path / "disk") as lossy:
        lossy.mount(cut_after=30)
        done = commit_until_cut(lossy.path / "db", sync=False)
        loss = lossy.cut_power()
        lossy.mount()
        assert loss.lost_writes > 0
        assert rows(lossy.path / "db") < done
