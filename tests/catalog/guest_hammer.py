"""Processes that hammer a few keys of one LMDB catalog, as its host or as a guest, and log what they saw.

Usage: python guest_hammer.py FOLDER LOG SEED DESCRIPTOR [MAP_SIZE]. With a map size it is the host, told what to do
over the socket DESCRIPTOR: `admit` with a guest's connection, or `repack`, which it answers. Without one it is a guest
with that connection. SIGTERM ends either in order. Exit status 3 says that the catalog was lost.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from pathlib import Path

import msgspec
import uvloop

from catalog.errors import CatalogClosed, CatalogError, CommitUnknown
from catalog.interface import Catalog, Reader, Transaction
from catalog.keys import u64
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.lmdb_engine.guest import GuestCatalog
from catalog.prefixes import ACCOUNTS, ENGINE
from tests.catalog.checker import KEYS, Observed

CLIENTS = 4
LOST = 3
_PAD = bytes(3000)


class Line(msgspec.Struct):
    """A line of the log: what a transaction saw and wrote in its newest attempt, then, with `ended`, that it was
    acknowledged."""

    name: int
    began: float
    seen: dict[str, int]
    wrote: list[str]
    ended: float | None = None


class Refused(LookupError):
    """The end of a transaction that saw something and wrote nothing."""

    def __init__(self, observed: Observed) -> None:
        super().__init__("refused")
        self.observed = observed


class Hammer:
    """The clients of one process."""

    def __init__(self, catalog: Catalog, log: Path, seed: int) -> None:
        self._catalog = catalog
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._rng = random.Random(seed)
        self._names = iter(range(seed * 1_000_000, (seed + 1) * 1_000_000))
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        """Until `stopping`, or the catalog is closed."""
        await asyncio.gather(*(self._client() for _ in range(CLIENTS)))

    async def _client(self) -> None:
        while not self.stopping.is_set():
            try:
                await self._one(next(self._names))
            except CatalogClosed:
                return
            except CommitUnknown:
                continue
            if self._rng.random() < 0.3:
                await asyncio.sleep(0.001)

    async def _one(self, name: int) -> None:
        rng, catalog = self._rng, self._catalog
        began = time.monotonic()
        kind = rng.random()
        if kind < 0.25:
            observed = await catalog.read(self._look(name, began), long=kind < 0.03)
        elif kind < 0.28:
            async with catalog.view() as view:
                observed = Observed(name, began=began)
                for key in rng.sample(KEYS, 4):
                    observed.seen[key] = int(await view.get(key) or b"0")
                    await asyncio.sleep(0.0005)
        else:
            try:
                observed = await catalog.transact(self._work(name, began))
            except Refused as refused:
                observed = refused.observed
        self._write(observed, time.monotonic())

    def _look(self, name: int, began: float) -> Callable[[Reader], Awaitable[Observed]]:
        keys = self._rng.sample(KEYS, 3)

        async def look(reader: Reader) -> Observed:
            values = await reader.get_many(keys)
            return Observed(name, {key: int(v or b"0") for key, v in zip(keys, values, strict=True)}, began=began)

        return look

    def _work(self, name: int, began: float) -> Callable[[Transaction], Awaitable[Observed]]:
        rng = self._rng
        reads = rng.sample(KEYS, rng.randrange(1, 4))
        writes = rng.sample(reads, rng.randrange(0, len(reads) + 1))
        ranged, fails = rng.random() < 0.3, rng.random() < 0.1

        async def work(txn: Transaction) -> Observed:
            observed = Observed(name, began=began)
            if ranged:
                rows = dict(await txn.scan(KEYS[0], KEYS[-1] + b"\x00", limit=100))
                observed.seen = {key: int(rows.get(key, b"0")) for key in KEYS}
            for key in reads:
                observed.seen[key] = int(await txn.get(key) or b"0")
            for key in writes:
                txn.put(key, b"%d" % name)
                observed.wrote.add(key)
            if fails:
                observed.wrote.clear()
                raise Refused(observed)
            if writes:
                txn.put(ACCOUNTS + u64(name), _PAD)
                # Its outcome may stay unknown to this process.
                self._write(observed, None)
            return observed

        return work

    def _write(self, observed: Observed, ended: float | None) -> None:
        seen = {key.hex(): writer for key, writer in observed.seen.items()}
        line = Line(observed.name, observed.began, seen, [key.hex() for key in observed.wrote], ended)
        os.write(self._log, msgspec.json.encode(line) + b"\n")


def history_of(logs: Sequence[Path], final: Observed) -> tuple[list[Observed], int]:
    """What was acknowledged, and what was not but was seen: by `final`, which saw all keys at the end, or others.
    Also the number of these."""
    known: dict[int, Observed] = {}
    for log in logs:
        # A process that was killed may have left half a line; a later one has another log.
        for text in log.read_bytes().split(b"\n")[:-1]:
            line = msgspec.json.decode(text, type=Line)
            seen = {bytes.fromhex(key): writer for key, writer in line.seen.items()}
            observed = Observed(line.name, seen, {bytes.fromhex(key) for key in line.wrote}, line.began)
            if line.ended is not None:
                observed.ended = line.ended
            known[line.name] = observed
    history = {name: observed for name, observed in known.items() if observed.ended < inf}
    acknowledged = len(history)
    history[final.name] = final
    look = list(history.values())
    while look:
        for writer in set(look.pop().seen.values()) - history.keys() - {0}:
            assert writer in known, f"somebody saw {writer}, which nobody wrote"
            history[writer] = known[writer]
            look.append(known[writer])
    return list(history.values()), len(history) - acknowledged - 1


async def _host(folder: Path, log: Path, seed: int, control: socket.socket, map_size: int) -> int:
    catalog = await LmdbCatalog.open(folder, map_size=map_size)
    catalog.share()
    hammer = Hammer(catalog, log, seed)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, hammer.stopping.set)

    async def obey() -> None:
        while True:
            message, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, control, 100, 1)
            if not message:
                return
            if message == b"admit":
                catalog.admit(socket.socket(fileno=descriptors[0]))
                control.send(b"admitted")
            else:
                try:
                    control.send(b"done" if await catalog.repack() else b"not")
                except CatalogError as error:
                    control.send(repr(error).encode())

    obeying = asyncio.create_task(obey())
    await hammer.run()
    await hammer.stopping.wait()
    obeying.cancel()
    await catalog.close()
    control.shutdown(socket.SHUT_RDWR)
    return 0


async def _guest(folder: Path, log: Path, seed: int, connection: socket.socket) -> int:
    lost = asyncio.Event()
    calls: list[None] = []

    def on_lost() -> None:
        calls.append(None)
        lost.set()

    catalog = await GuestCatalog.open(folder, connection, on_lost=on_lost)
    hammer = Hammer(catalog, log, seed)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, hammer.stopping.set)
    await hammer.run()
    if not hammer.stopping.is_set():
        # Commits are refused a little earlier.
        await asyncio.wait_for(lost.wait(), 5)
        await asyncio.sleep(0.05)
        return LOST if len(calls) == 1 else 1
    await catalog.close()
    return 0


async def main() -> int:
    folder, log, seed, descriptor = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    sock = socket.socket(fileno=descriptor)
    if len(sys.argv) > 5:
        return await _host(folder, log, seed, sock, int(sys.argv[5]))
    return await _guest(folder, log, seed, sock)


if __name__ == "__main__":
    assert ENGINE < ACCOUNTS
    sys.exit(uvloop.run(main()))
