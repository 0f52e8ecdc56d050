"""The project's own rules about its files, as CONTRIBUTING states them."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("accounts", "atoll", "backends", "catalog", "core", "engine", "erasure", "gateway")
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
MOST_LINES = 420

#: Files that are longer, each with the reason why they stay one.
LONG_FILES: dict[str, str] = {}

#: Paths that exist on one machine only. Assembled so that this file does not hold them itself.
_FOLDERS = ("home" + "/[a-z]", "Users" + "/[a-z]", "root/", "work/")
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:" + "|".join(_FOLDERS) + ")")


def tracked(*patterns: str) -> list[Path]:
    """Files under version control, and new ones that are not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted({ROOT / line for line in listing.splitlines() if (ROOT / line).is_file()})


def test_no_file_is_much_longer_than_400_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in tracked("*.py")}
    assert {name: count for name, count in lengths.items() if count > MOST_LINES and name not in LONG_FILES} == {}
    assert [name for name in LONG_FILES if lengths.get(name, 0) <= MOST_LINES] == [], "no longer an exception"


def test_names_say_what_a_module_does() -> None:
    parts = {(part, str(path.relative_to(ROOT))) for path in tracked("*.py") for part in path.relative_to(ROOT).parts}
    assert [name for part, name in sorted(parts) if part.removesuffix(".py") in FORBIDDEN_NAMES] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in tracked("*.py")
        if (tree := ast.parse(path.read_text())).body and not ast.get_docstring(tree)
    ]
    assert silent == []


def test_no_import_hides_in_a_function() -> None:
    hidden: list[str] = []
    for path in tracked(*(f"{room}/*.py" for room in ROOMS)):
        for outer in ast.walk(ast.parse(path.read_text())):
            if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = [node for node in ast.walk(outer) if isinstance(node, ast.Import | ast.ImportFrom)]
                hidden += [f"{path.relative_to(ROOT)}:{node.lineno}" for node in inner]
    assert hidden == []


def test_no_path_of_a_machine_in_the_tree() -> None:
    found: list[str] = []
    for path in tracked():
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if MACHINE_PATHS.search(line)]
    assert found == []


def test_no_unfinished_work_is_marked_in_the_code() -> None:
    words = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "NotImplemented" + "Error")) + r")\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if words.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("target", ["up", "test", "check", "bench", "soak", "peers"])
def test_make_knows_its_targets(target: str) -> None:
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_decisions_are_numbered_without_gaps_and_have_their_sections() -> None:
    files = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert [int(path.name[:4]) for path in files] == list(range(1, len(files) + 1))
    for path in files:
        text = path.read_text()
        for section in ("## Context", "## Decision", "## Consequences"):
            assert section in text, f"{path.name} lacks {section}"
