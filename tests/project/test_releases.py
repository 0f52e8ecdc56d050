"""What docs/releasing.md says of versions, and of what each release leaves in the tree."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.upgrade import releases

ROOT = Path(__file__).resolve().parents[2]
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def numbers(version: str) -> list[int]:
    return [int(number) for number in version.partition(".dev")[0].split(".")]


def test_the_tree_is_on_its_way_to_the_next_release() -> None:
    if ".dev" in VERSION:
        assert numbers(VERSION) > numbers(releases.PREVIOUS)
    else:
        assert VERSION == releases.PREVIOUS


def test_the_command_and_the_lock_file_have_the_tree_s_version() -> None:
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    assert [package["version"] for package in locked if package["name"] == "atoll"] == [VERSION]
    done = subprocess.run([Path(sys.executable).with_name("atoll"), "--version"], capture_output=True, text=True)
    told = done.stdout.split()[-1]
    assert told == VERSION, "the environment is older than pyproject.toml: `make` brings it up to date"


@pytest.mark.parametrize("version", releases.VERSIONS)
def test_a_release_is_told_of_and_kept(version: str) -> None:
    heading = re.compile(rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d$", re.MULTILINE)
    assert heading.search((ROOT / "CHANGELOG.md").read_text())
    assert f"\n| {version} |" in (ROOT / "docs/operations/upgrade.md").read_text()
    kept = {path.name for path in (releases.FOLDER / version).iterdir()}
    assert {"data.tar.xz", "data.json"} <= kept
    assert ("shared.json" in kept) == (numbers(version) >= [0, 2, 0])
