"""How long the suites run that can run long: reduced by default, at full length in the soak (`make soak`)."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.postgres_server import PostgresServer

#: Set to 1 by `make soak`. Servers under test never see it: their environment holds no ATOLL_ variable of ours.
VARIABLE = "ATOLL_SOAK"
SOAK = os.environ.get(VARIABLE) == "1"
#: Seconds that one test may take in the soak, whatever its own limit is.
_SOAK_LIMIT = 7200
_FIGURE = "figure"
#: Folders whose tests take long, those with the longest first. They begin before all others, lest one be the last to
#: begin while the other process has nothing left to do.
LONG = ("gateways", "processes", "snapshots", "crash", "deploy", "upgrade", "powerloss", "load", "clients", "migrate",
        "faults", "catalog_copy", "cli", "rot")  # fmt: skip


@pytest.fixture(scope="session")
def soak() -> bool:
    """Whether this is the full-length run."""
    return SOAK


@pytest.fixture(scope="session")
def rounds(soak: bool) -> int:
    """A multiple of the reduced length."""
    return 20 if soak else 1


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL that all tests of a process share."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
async def postgres_url(postgres: PostgresServer) -> AsyncIterator[str]:
    """The address of an empty database of the test's own."""
    name = await postgres.new_database()
    yield postgres.url(name)
    await postgres.drop_database(name)


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Say what a run amounted to, in a line; the soak prints the lines at its end."""

    def say(line: str) -> None:
        record_property(_FIGURE, line)

    return say


def _turn(item: pytest.Item) -> int:
    """When a test begins: those of folders with long ones first, all of a folder together."""
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return LONG.index(folder) if folder in LONG else len(LONG)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_turn)
    for item in items if SOAK else ():
        item.add_marker(pytest.mark.timeout(_SOAK_LIMIT), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the soak did, suite by suite."""
    if not SOAK:
        return
    tests: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    lines: dict[str, list[str]] = defaultdict(list)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            suite, _, name = report.nodeid.rpartition("/")
            tests[suite] += 1
            seconds[suite] += report.duration
            for kind, line in report.user_properties:
                if kind == _FIGURE:
                    lines[suite].append(f"  {name}: {line}")
    terminalreporter.section("figures")
    for suite in sorted(tests):
        terminalreporter.write_line(f"{suite}: {tests[suite]} tests, {seconds[suite]:.0f} s")
        for line in lines[suite]:
            terminalreporter.write_line(line)
