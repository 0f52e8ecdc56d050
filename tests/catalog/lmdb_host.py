"""A process that owns LMDB catalogs for guests in the tests' process. Told over a Unix socket, its first argument: each
message is a folder, two options and two descriptors: of the guest's connection, and of one that tells of the end."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

from catalog.interface import Transaction
from catalog.keys import u64
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.prefixes import ENGINE, META


class HostProcess:
    """The process, from outside."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))

    def own(self, folder: Path, *, busy: bool, map_size: int = 1 << 30) -> tuple[socket.socket, socket.socket]:
        """Let it open a catalog for one guest, and write all the time when `busy`. Returns the guest's connection and a
        socket on which one byte comes when the catalog is closed."""
        connection, theirs = socket.socketpair()
        ended, end = socket.socketpair()
        with theirs, end:
            message = f"{folder}\n{int(busy)}\n{map_size}".encode()
            socket.send_fds(self._control, [message], [theirs.fileno(), end.fileno()])
        return connection, ended

    def stop(self) -> None:
        """End it."""
        self._control.close()
        self.process.wait(10)


async def _touch(catalog: LmdbCatalog) -> None:
    """Write, all the time, what is there already: guests' transactions that read it are outdated, but not wrong."""
    turn = 0

    async def work(txn: Transaction) -> None:
        for key, value in await txn.scan(ENGINE, b"\x11", limit=4):
            txn.put(key, value)
        txn.put(META + b"turn", u64(turn))

    while True:
        turn += 1
        await catalog.transact(work)
        if turn % 3 == 0:
            await asyncio.sleep(0.002)


async def _serve(folder: Path, busy: bool, map_size: int, connection: socket.socket, end: socket.socket) -> None:
    catalog = await LmdbCatalog.open(folder, map_size=map_size)
    catalog.share()
    writing = asyncio.create_task(_touch(catalog)) if busy else None
    await catalog.admit(connection)
    if writing is not None:
        writing.cancel()
        await asyncio.wait((writing,))
    await catalog.close()
    end.send(b".")
    end.close()


async def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    serving = set()
    while True:
        message, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, control, 4096, 2)
        if not message:
            break
        folder, busy, map_size = message.decode().split("\n")
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        serving.add(asyncio.create_task(_serve(Path(folder), busy == "1", int(map_size), *sockets)))
    if serving:
        await asyncio.wait(serving, timeout=5)


if __name__ == "__main__":
    asyncio.run(main())
