"""The machine's own limits, measured in the same run: what bounds any server here."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import time
from pathlib import Path

MIB = 1 << 20


def md5_rate() -> float:
    """MB/s of MD5 on one core."""
    block = os.urandom(MIB)
    digest = hashlib.md5(usedforsecurity=False)
    started = time.perf_counter()
    for _ in range(400):
        digest.update(block)
    return 400 * MIB / (time.perf_counter() - started) / 1e6


def synced_rate(folder: Path) -> float:
    """MB/s of six files written side by side and synced."""
    folder.mkdir(parents=True, exist_ok=True)
    block = os.urandom(MIB)

    def write(number: int) -> None:
        path = folder / str(number)
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        for _ in range(128):
            os.write(descriptor, block)
        os.fsync(descriptor)
        os.close(descriptor)

    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    seconds = time.perf_counter() - started
    for number in range(6):
        (folder / str(number)).unlink()
    return 6 * 128 * MIB / seconds / 1e6
