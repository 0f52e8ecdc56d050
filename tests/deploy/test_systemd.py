"""The unit: systemd takes it, hardly anything is open to the service, and what it sets is what the program knows."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import click
import pytest

from core.config import environment_layer, load
from gateway.wiring.main import EXIT_CONFIG, EXIT_REFUSED, group
from gateway.wiring.settings import CONFIG_VARIABLE, PREFIX, Settings
from tests.deploy.programs import ROOT, program, run

FOLDER = ROOT / "deploy" / "systemd"
UNIT = FOLDER / "atoll.service"
ANALYZE = ("systemd", "usr/bin/systemd-analyze")


def settings(file: Path = UNIT) -> dict[str, list[str]]:
    """Values by name, all sections together."""
    found: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_systemd_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    program_here = str(Path(sys.executable).with_name("atoll"))
    unit = tmp_path / "atoll.service"
    unit.write_text(UNIT.read_text().replace("/opt/atoll/.venv/bin/atoll", program_here))
    done = run(program(*ANALYZE), "verify", "--man=no", str(unit), environment="systemd")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_would_find_a_mistake(tmp_path: Path) -> None:
    unit = tmp_path / "atoll.service"
    unit.write_text(UNIT.read_text().replace("KillMode=mixed", "KillMode=gently"))
    done = run(program(*ANALYZE), "verify", "--man=no", str(unit), environment="systemd")
    assert "gently" in done.stderr


def test_hardly_anything_is_open_to_the_service() -> None:
    done = run(program(*ANALYZE), "security", "--offline=true", "--threshold=20", str(UNIT), environment="systemd")
    assert done.returncode == 0, done.stdout[-2000:]  # exposure of at most 2.0 of 10


def test_its_variables_are_settings_and_leave_time_to_drain() -> None:
    unit = settings()
    variables = dict(one.split("=", 1) for one in unit["Environment"])
    found = load(Settings, [environment_layer(Settings, variables, PREFIX, ignore=[CONFIG_VARIABLE])])
    assert found.http.drain_delay > 0
    assert seconds(unit["TimeoutStopSec"][0]) > found.http.drain_delay + found.http.drain_timeout
    assert variables["ATOLL_ROOT_KEY_FILE"] == "%d/root.key"
    assert unit["LoadCredential"] == ["root.key:/etc/atoll/root.key"]
    assert variables["ATOLL_DATA"] == "/var/lib/" + unit["StateDirectory"][0]


@pytest.mark.parametrize("file", [UNIT, FOLDER / "first-start.conf"], ids=lambda path: path.name)
def test_its_command_is_one_of_the_program(file: Path) -> None:
    binary, name, *options = shlex.split(settings(file)["ExecStart"][-1])
    assert binary == "/opt/atoll/.venv/bin/atoll"
    command = group.get_command(click.Context(group), name)
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(options) <= known


def test_what_a_second_try_cannot_mend_is_not_tried_again() -> None:
    assert settings()["RestartPreventExitStatus"] == [f"{EXIT_CONFIG} {EXIT_REFUSED}"]


def test_the_service_s_user_is_made() -> None:
    unit = settings()
    file = FOLDER / "atoll.sysusers.conf"
    assert re.search(rf"^u {unit['User'][0]} ", file.read_text(), re.MULTILINE)
    done = run(program("systemd", "usr/bin/systemd-sysusers"), "--dry-run", str(file), environment="systemd")
    assert done.returncode == 0, done.stderr
