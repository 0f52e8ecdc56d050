"""kill -9 at random instants: what was acknowledged is there, and no transaction is torn."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from catalog.errors import Locked
from catalog.interface import Reader, Row
from catalog.keys import u32
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.prefixes import ENGINE
from tests.catalog import hammer

CLIENTS = 12


def start_hammer(folder: Path, clients: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, hammer.__file__, str(folder), str(clients)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def kill_after(process: subprocess.Popen[bytes], seconds: float) -> list[tuple[int, int]]:
    """Kill -9, and what was acknowledged until then: (client, turn)."""
    # The pipe holds 64 KiB; a reader keeps the hammer from waiting on it.
    lines: list[bytes] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
    reader.start()
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    reader.join()
    process.stdout.close()
    return [(int(number), int(turn)) for number, turn in (line.split() for line in lines)]


async def test_acknowledged_transactions_survive_kill_9_whole(tmp_path: Path) -> None:
    rng = random.Random(11)
    acknowledged = [0] * CLIENTS
    for _ in range(6):
        process = start_hammer(tmp_path / "catalog", CLIENTS)
        for number, turn in kill_after(process, rng.uniform(0.02, 0.25)):
            acknowledged[number] = turn

        catalog = await LmdbCatalog.open(tmp_path / "catalog")
        for number in range(CLIENTS):

            async def state(reader: Reader, number: int = number) -> tuple[list[bytes | None], list[Row]]:
                prefix = ENGINE + u32(number) + b"log"
                return await reader.get_many(hammer.keys(number)), await reader.scan(prefix, prefix + b"\xff", limit=9)

            values, log = await catalog.read(state)
            assert len(set(values)) == 1, "a torn transaction"
            stored = int(values[0] or b"0")
            assert stored >= acknowledged[number], "an acknowledged transaction is lost"
            assert [key for key, _ in log] == ([ENGINE + u32(number) + b"log%d" % stored] if stored else [])
        assert await catalog.sequence() > 0
        await catalog.close()
    assert sum(acknowledged) > 100


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    process = start_hammer(tmp_path / "catalog", 1)
    try:
        with pytest.raises(Locked, match="another process"):
            await LmdbCatalog.open(tmp_path / "catalog")
    finally:
        kill_after(process, 0)
    await (await LmdbCatalog.open(tmp_path / "catalog")).close()
