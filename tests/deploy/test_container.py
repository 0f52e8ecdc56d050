"""The Dockerfile: what it copies is there, and its own steps, done by hand, give a program that runs on its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib

import pytest

from tests.clients.conftest import PEERS, need
from tests.deploy.programs import ROOT, run

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def copied() -> list[str]:
    """Sources of COPY out of the tree."""
    found: list[str] = []
    for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE):
        if not line.startswith("--from"):
            found += line.split()[:-1]
    return found


def test_a_linter_finds_nothing() -> None:
    hadolint = need(PEERS / "hadolint" / "bin" / "hadolint", "hadolint")
    done = run(hadolint, "--no-color", str(ROOT / "Dockerfile"))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_package_of_the_program_is_copied_and_nothing_that_is_not_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(packages) <= set(copied())
    assert [name for name in copied() if not (ROOT / name).exists()] == []
    let_in = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert set(let_in) == set(copied())


def test_the_program_runs_as_nobody_in_particular() -> None:
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert DOCKERFILE.rindex("USER 10001") < DOCKERFILE.rindex("ENTRYPOINT")
    assert "sudo" not in DOCKERFILE


def test_the_health_check_is_a_command_of_the_program() -> None:
    found = re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found is not None
    program, *arguments = json.loads(found[1])
    assert (program, arguments) == ("atoll", ["status", "--json"])
    done = subprocess.run(
        [str(ROOT / ".venv" / "bin" / "atoll"), *arguments],
        capture_output=True,
        env={**os.environ, "ATOLL_DATA": "/nowhere"},
    )
    assert done.returncode != 0  # nobody serves


@pytest.mark.timeout(300)
def test_its_build_steps_give_a_program_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    uv = shutil.which("uv") or need(ROOT / ".tools" / "bin" / "uv", "uv")
    source = tmp_path_factory.mktemp("image")
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    environment = source / "installed"
    steps = re.findall(r"^RUN uv (sync .*) --python \S+$", DOCKERFILE, re.MULTILINE)
    assert len(steps) == 2
    for step in steps:
        done = subprocess.run(
            [uv, *step.split(), "--quiet", "--python", str(ROOT / ".venv" / "bin" / "python")],
            cwd=source,
            env={**os.environ, "UV_PROJECT_ENVIRONMENT": str(environment), "VIRTUAL_ENV": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    shutil.rmtree(source / "gateway")  # it must not lean on the sources
    done = run(str(environment / "bin" / "atoll"), "serve", "--help")
    assert done.returncode == 0, done.stderr
    assert not list(environment.rglob("pytest"))
