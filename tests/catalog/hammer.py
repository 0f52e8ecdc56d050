"""Run by the crash test: hammers a catalog with transactions and tells on stdout which were acknowledged.

Each transaction writes the same number under three keys of one client, one of them long, and removes the one before
it, so that a torn transaction or a lost one shows. Usage: python hammer.py FOLDER CLIENTS
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from catalog.interface import Transaction
from catalog.keys import u32
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.prefixes import ENGINE


def keys(client: int) -> list[bytes]:
    """The keys that a client's transactions set together."""
    return [ENGINE + u32(client) + b"a", ENGINE + u32(client) + b"b" * 1500, b"\x20" + u32(client)]


async def client(catalog: LmdbCatalog, number: int) -> None:
    turn = 0

    async def work(txn: Transaction) -> int:
        last = int(await txn.get(keys(number)[0]) or b"0")
        for key in keys(number):
            txn.put(key, b"%d" % (last + 1))
        txn.delete(ENGINE + u32(number) + b"log%d" % last)
        txn.put(ENGINE + u32(number) + b"log%d" % (last + 1), os.urandom(200))
        return last + 1

    while True:
        turn = await catalog.transact(work)
        # One write per line, so that the reader never sees half of one.
        os.write(1, b"%d %d\n" % (number, turn))


async def main() -> None:
    catalog = await LmdbCatalog.open(Path(sys.argv[1]))
    os.write(1, b"ready\n")
    await asyncio.gather(*(client(catalog, number) for number in range(int(sys.argv[2]))))


if __name__ == "__main__":
    asyncio.run(main())
