"""A host and guests of one LMDB catalog in processes of their own: strictly serializable, whoever is stopped or killed.

All write the same six keys all the time; what they saw is judged together (see checker.py).
"""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from catalog.interface import Reader
from catalog.lmdb_engine.catalog import LmdbCatalog
from tests.catalog import guest_hammer
from tests.catalog.checker import KEYS, Observed, assert_serializable
from tests.catalog.waiting import eventually

pytestmark = pytest.mark.xdist_group("lmdb-guest")

_FINAL = 999_999_999


class Processes:
    """One host and its guests."""

    def __init__(self, folder: Path, *, map_size: int) -> None:
        self._folder = folder
        self._seeds = iter(range(1, 100))
        self.logs: list[Path] = []
        self.guests: list[subprocess.Popen[bytes]] = []
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(20)
        self.host = self._start(theirs, str(map_size))

    def _start(self, sock: socket.socket, *more: str) -> subprocess.Popen[bytes]:
        seed = next(self._seeds)
        self.logs.append(self._folder / f"log{seed}")
        command = [sys.executable, guest_hammer.__file__, str(self._folder / "catalog"), str(self.logs[-1]), str(seed)]
        with sock:
            sock.set_inheritable(True)
            return subprocess.Popen([*command, str(sock.fileno()), *more], pass_fds=(sock.fileno(),))

    async def add_guest(self) -> None:
        theirs, ours = socket.socketpair()
        with ours:
            socket.send_fds(self._control, [b"admit"], [ours.fileno()])
        assert await self._answer() == b"admitted"
        self.guests.append(self._start(theirs))
        log = self.logs[-1]

        async def runs() -> bool:
            return log.exists() and log.stat().st_size > 0

        await eventually(runs)

    async def repack(self) -> bytes:
        self._control.send(b"repack")
        return await self._answer()

    async def _answer(self) -> bytes:
        return await asyncio.to_thread(self._control.recv, 1000)

    async def end(self, process: subprocess.Popen[bytes], number: signal.Signals) -> int:
        process.send_signal(number)
        return await asyncio.to_thread(process.wait, 20)

    def kill(self) -> None:
        """Whatever is left."""
        for process in (self.host, *self.guests):
            process.kill()
            process.wait()
        self._control.close()

    async def judge(self) -> tuple[list[int], int]:
        """Check what all saw, and the catalog now. Returns how many acknowledged transactions each log has, and how
        many others turned out to be committed."""
        catalog = await LmdbCatalog.open(self._folder / "catalog")

        async def look(reader: Reader) -> Observed:
            return Observed(_FINAL, {key: int(await reader.get(key) or b"0") for key in KEYS}, began=float(1 << 60))

        final = await catalog.read(look)
        await catalog.close()
        history, unknown = guest_hammer.history_of(self.logs, final)
        assert_serializable(history)
        return [
            sum(o.name // 1_000_000 == number and o.ended < inf for o in history)
            for number in range(1, len(self.logs) + 1)
        ], unknown


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path, map_size=1 << 20)
    yield processes
    processes.kill()


async def test_stopped_killed_and_repacked_they_stay_strictly_serializable(processes: Processes) -> None:
    """The map grows meanwhile, from 1 MiB."""
    rng = random.Random(4)
    await processes.add_guest()
    await processes.add_guest()
    await asyncio.sleep(0.3)
    repacked: list[bytes] = []
    stop = False

    async def repack() -> None:
        while not stop:
            repacked.append(await processes.repack())
            await asyncio.sleep(0.15)

    repacking = asyncio.create_task(repack())
    for turn in range(8):
        victim = rng.choice(processes.guests)
        if turn % 4 == 3:
            processes.guests.remove(victim)
            await processes.end(victim, signal.SIGKILL)
            stop = True  # one answer at a time on the control socket
            await repacking
            await processes.add_guest()
            stop = False
            repacking = asyncio.create_task(repack())
        else:
            victim.send_signal(signal.SIGSTOP)
            await asyncio.sleep(rng.uniform(0.02, 0.4))
            victim.send_signal(signal.SIGCONT)
        await asyncio.sleep(rng.uniform(0.1, 0.4))
    stop = True
    await repacking
    for guest in processes.guests:
        assert await processes.end(guest, signal.SIGTERM) == 0
    assert await processes.end(processes.host, signal.SIGTERM) == 0
    counts, _ = await processes.judge()
    # Guests' transactions are outdated most of the time here, and some lived shortly.
    assert min(counts) > 3, counts
    assert sum(counts[1:]) > 100, counts
    assert repacked.count(b"done") >= 3, repacked
    assert set(repacked) <= {b"done", b"not"}


async def test_a_killed_host_loses_nothing_acknowledged_and_its_guests_notice(processes: Processes) -> None:
    await processes.add_guest()
    await processes.add_guest()
    await asyncio.sleep(1.0)
    await processes.end(processes.host, signal.SIGKILL)
    for guest in processes.guests:
        assert await asyncio.to_thread(guest.wait, 10) == guest_hammer.LOST
    counts, _ = await processes.judge()
    assert min(counts) > 20, counts


async def test_a_host_that_closes_lets_its_guests_go(processes: Processes) -> None:
    await processes.add_guest()
    await asyncio.sleep(0.5)
    assert await processes.end(processes.host, signal.SIGTERM) == 0
    assert await asyncio.to_thread(processes.guests[0].wait, 10) == guest_hammer.LOST
    counts, unknown = await processes.judge()
    assert min(counts) > 20, counts
    assert unknown == 0, "a commit that was told to have failed is there"
