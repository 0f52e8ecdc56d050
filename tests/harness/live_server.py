"""A real `atoll up` process on a port of its own.

The process is the one a user starts: same command, same folders, real sockets. Tests talk to it through the public
door, and may kill it at any instant and start it again on the same folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from gateway.wiring.nursery import GUEST, NURSERY

ROOT_KEY_ID = "AKIATESTROOT00000001"
ROOT_SECRET = "test/secret/of/the/root/user/0000000001"
READY = re.compile(r"ready (https?)://([^\s:]+):(\d+)")
REGION = "us-east-1"


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """A test run that is cut off leaves no server behind."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _children(pid: int, name: str) -> list[int]:
    """The processes of that name which a process forked, and which run."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
        found = [child for child in children if alive(child) and _name(child) == name]
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class ServerFailed(RuntimeError):
    """The process ended before it was ready; the text is what it printed."""


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class LiveServer:
    """One server over one data folder. `start` and `stop` may alternate; `kill` is SIGKILL.

    It has as many processes as by default, or so many.
    """

    def __init__(
        self, folder: Path, *, config: str = "", env: Mapping[str, str] | None = None, processes: int | None = None
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.scheme = "http"
        self.output: list[str] = []
        #: A folder with another release's packages: they run instead of the tree's own, from the next start on.
        self.packages: Path | None = None
        self.extra = dict(env or {})
        self._processes = processes
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if config:
            (folder / "atoll.toml").write_text(config)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def nodes(self) -> Path:
        return self.data / "nodes"

    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ATOLL_")}
        return {
            **inherited,
            "ATOLL_DATA": str(self.data),
            "ATOLL_LISTEN": f"127.0.0.1:{self.port}",
            "ATOLL_ACCESS_KEY_ID": ROOT_KEY_ID,
            "ATOLL_SECRET_ACCESS_KEY": ROOT_SECRET,
            "ATOLL_ROOT_KEY_FILE": str(self.folder / "root.key"),
            **({"ATOLL_PROCESSES": str(self._processes)} if self._processes is not None else {}),
            **({"PYTHONPATH": str(self.packages)} if self.packages else {}),
            **self.extra,
        }

    def command_line(self) -> list[str]:
        """The program with its arguments, as a user gives them."""
        return [str(Path(sys.executable).with_name("atoll")), "up"]

    def start(self, *, timeout: float = 30.0, env: Mapping[str, str] | None = None) -> LiveServer:
        """Start and wait until it prints its ready line. Raises ServerFailed with the output if it ends first."""
        assert self._process is None
        self.output = []
        self._process = subprocess.Popen(
            self.command_line(),
            cwd=self.folder,
            env={**self.environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, safe between fork and exec
        )
        ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self._process, ready), daemon=True)
        self._reader.start()
        deadline = time.monotonic() + timeout
        while not ready.wait(0.02):
            if self._process.poll() is not None:
                self._reader.join(5)
                code = self._process.returncode
                self._forget()
                raise ServerFailed(f"exit {code}\n" + "".join(self.output))
            if time.monotonic() > deadline:
                self.kill()
                raise ServerFailed("not ready in time\n" + "".join(self.output))
        return self

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.output.append(line)
            if match := READY.search(line):
                self.scheme = match.group(1)
                ready.set()

    def _forget(self) -> None:
        process, self._process = self._process, None
        if self._reader is not None:
            self._reader.join(5)
            self._reader = None
        if process is not None and process.stdout is not None:
            process.stdout.close()

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, *, timeout: float = 30.0) -> int:
        """SIGTERM and wait for a graceful end; the exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._forget()
        return code

    def kill(self) -> None:
        """SIGKILL to all its processes: no chance to finish anything."""
        if self._process is not None:
            guests = self.guests()
            self._process.kill()
            for guest in guests:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(guest, signal.SIGKILL)
            self._process.wait()
            while any(alive(guest) for guest in guests):
                time.sleep(0.001)
            self._forget()

    def nursery(self) -> int | None:
        """The id of the process that forks the further ones; None when there is none."""
        return next(iter(_children(self.pid, NURSERY)), None)

    def guests(self) -> list[int]:
        """The ids of its further processes; those that have ended are not among them."""
        nursery = self.nursery()
        return sorted(_children(nursery, GUEST)) if nursery is not None else []

    def pause(self) -> None:
        """SIGSTOP: it is there, and does nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the process to end by itself (a crash point); the exit code."""
        assert self._process is not None
        code = self._process.wait(timeout)
        self._forget()
        return code

    def client(self, **options: Any) -> Any:
        """A boto3 S3 client of the root user (or of `aws_access_key_id`, `aws_secret_access_key` in `options`)."""
        config = Config(
            retries={"total_max_attempts": 1},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=64,
            s3={"addressing_style": "path"},
        ).merge(options.pop("config", Config()))
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=options.pop("aws_access_key_id", ROOT_KEY_ID),
            aws_secret_access_key=options.pop("aws_secret_access_key", ROOT_SECRET),
            config=config,
            **options,
        )

    def command(self, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run the `atoll` command against this server, as an operator would."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("atoll")), *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def settle(self) -> None:
        """Have the small bodies that wait in the catalog moved to the nodes, for tests that look at pieces."""
        done = self.command("worker", "run", "settling")
        assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def live_server(folder: Path, **options: Any) -> Iterator[LiveServer]:
    """A started server that is gone when the block ends."""
    server = LiveServer(folder, **options).start()
    try:
        yield server
    finally:
        server.kill()
