"""Links in the documentation lead somewhere: to files of the tree, and to headings that they have."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from tests.project.test_habits import ROOT, tracked

#: [text](target), images too; not within code.
_LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_FILE_NAMED = re.compile(r"`((?:docs|deploy|helm|bench|tests)/[\w./-]+\.\w+)`")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:")


def pages() -> list[Path]:
    return tracked("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "helm/*.md")


def anchors(page: Path) -> set[str]:
    """The ids of a page's headings, as hosts of repositories make them."""
    found: dict[str, int] = {}
    names = set()
    for line in _without_code(page, inline=False).splitlines():
        if heading := re.match(r"#{1,6} +(.*?)(?: +#+)?$", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.group(1)).replace("`", "").lower()
            kept = "".join(c for c in text if c in " -_" or unicodedata.category(c)[0] in "LN")
            name = kept.replace(" ", "-")
            names.add(f"{name}-{found[name]}" if name in found else name)
            found[name] = found.get(name, 0) + 1
    return names


def _without_code(page: Path, *, inline: bool = True) -> str:
    text = page.read_text()
    return _CODE.sub(lambda match: "" if inline or match.group().startswith("```") else match.group(), text)


def broken(page: Path, root: Path = ROOT) -> list[str]:
    """What the page's links lack; they may lead nowhere else than below `root`."""
    found = []
    for target in _LINK.findall(_without_code(page)):
        if _ELSEWHERE.match(target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.is_relative_to(root) or not path.exists():
            found.append(f"{target}: there is no such file")
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            found.append(f"{target}: there is no such heading")
    return found


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page: Path) -> None:
    named = {name for name in _FILE_NAMED.findall(page.read_text()) if "*" not in name}
    written_by_runs = {"bench/results.json", "bench/results-gateways.json"}
    assert [name for name in sorted(named - written_by_runs) if not (ROOT / name).exists()] == []


def test_a_link_into_the_void_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    links = "[a](#one-two) [b](#one-two-1) [c](#three) [d](none.md) [e](page.md#one-two) `[f](f.md)` <https://x>"
    page.write_text(f"# One `two`\n\n## One two\n\n{links}\n\n```\n[g](g.md)\n```\n")
    assert anchors(page) == {"one-two", "one-two-1"}
    assert broken(page, tmp_path) == ["#three: there is no such heading", "none.md: there is no such file"]
    assert broken(page, tmp_path / "below")[0] == "#one-two: there is no such file"
