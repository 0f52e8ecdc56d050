"""The README's tables say what the program does."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import click

from core.config import Layer, load
from gateway.wiring.main import COMMANDS, EXIT_CONFIG, EXIT_FAILED, EXIT_REFUSED, group
from gateway.wiring.settings import Settings

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its two head lines."""
    section = README.partition(f"## {heading}\n")[2]
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def nested(name: str, value: Any) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    return dict(value)


def all_settings(kind: Any, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for field in dataclasses.fields(kind):
        value = getattr(kind(), field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            found |= all_settings(type(value), f"{prefix}{field.name}.")
        else:
            found.add(prefix + field.name)
    return found


def test_every_setting_is_in_the_table_with_its_default() -> None:
    named: set[str] = set()
    for keys, defaults, _ in rows("Settings"):
        names = re.findall(r"`([^`]+)`", keys)
        values = re.findall(r"`([^`]+)`", defaults)
        for position, name in enumerate(names):
            named.add(name.strip("[]"))
            if len(values) != len(names) or name == "root_key_file":
                continue  # "none", or words
            text = values[position]
            given: Any = text
            if text.startswith("["):
                given = [one.strip('"') for one in text.strip("[]").split(", ") if one]
            elif text in ("true", "false"):
                given = text == "true"
            elif text.isdigit():
                given = int(text)
            assert load(Settings, [Layer("README", nested(name, given))]) == Settings(), name
    assert named == all_settings(Settings)


def test_every_command_is_in_the_table() -> None:
    told = {cells[0].replace("\\|", "|").strip("`").removeprefix("atoll ") for cells in rows("The command")}
    context = click.Context(group)
    for name in COMMANDS:
        (line,) = [one for one in told if one.split()[0] == name]
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            assert set(line.split()[1].split("|")) == set(command.list_commands(context))
    assert {one.split()[0] for one in told} == set(COMMANDS)


def test_exit_codes_are_the_programs() -> None:
    told = dict(re.findall(r"(\d) ([a-z ]+)", README.partition("Exit codes: ")[2].partition("\n\n")[0]))
    assert set(told) == {"1", "2", "3", "4"}
    assert (EXIT_FAILED, EXIT_CONFIG, EXIT_REFUSED) == (1, 2, 3)
