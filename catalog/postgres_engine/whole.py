"""Whole catalogs: all rows out in one snapshot, and rows of another catalog in. For backups and copies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

from catalog.errors import CatalogError
from catalog.feed import TRIMMED_KEY
from catalog.interface import Row
from catalog.keys import prefix_end, u64
from catalog.limits import check_row
from catalog.postgres_engine import statements
from catalog.postgres_engine.connections import Connector
from catalog.postgres_engine.database import Database
from catalog.postgres_engine.failures import is_conflict, is_lost, translate
from catalog.postgres_engine.readers import SnapshotReader

_EXPORT_ROWS: Final = 1000
_LOAD_ROWS: Final = 2000


async def export_rows(connector: Connector, after: bytes) -> AsyncGenerator[list[Row], None]:
    """See `catalog.interface.Catalog.export`; on a connection of its own. Raises CatalogUnavailable."""
    start, end = after + b"\x00", prefix_end(b"")
    try:
        connection = await connector.connect(endless=True)
    except Exception as error:
        raise translate(error) from None
    reader = SnapshotReader(connection, connector.patience)
    try:
        await reader.begin()
        while rows := await reader.scan(start, end, limit=_EXPORT_ROWS):
            yield rows
            start = rows[-1][0] + b"\x00"
    except Exception as error:
        if isinstance(error, CatalogError):
            raise
        raise translate(error) from None
    finally:
        connection.terminate()


async def load_rows(database: Database, patience: float, rows: Sequence[Row], sequence: int) -> None:
    """See `catalog.interface.Catalog.load`: in one transaction. `patience`: seconds for the answer of one statement.
    Raises CatalogUnavailable, CatalogFull, or ValueError for a row that no catalog may hold."""
    whole = dict(rows)
    for key, value in whole.items():
        check_row(key, value)
    whole[TRIMMED_KEY] = u64(sequence)
    ordered = sorted(whole.items())
    runs = [ordered[at : at + _LOAD_ROWS] for at in range(0, len(ordered), _LOAD_ROWS)]
    version = random.getrandbits(62) + 1
    backoff = database.backoff()
    while True:
        try:
            async with database.use() as connection, asyncio.timeout(patience * len(runs)):
                await _load(connection, runs, version, sequence)
            return
        except CatalogError:
            raise
        except Exception as error:
            if not (is_lost(error) or is_conflict(error)) or backoff.over:
                raise translate(error) from None
        await backoff.pause()


async def _load(connection: Any, runs: Sequence[Sequence[Row]], version: int, sequence: int) -> None:
    """One attempt. A connection that didn't get to its end is of no use any more."""
    transaction = connection.transaction()
    try:
        await transaction.start()
        for run in runs:
            await connection.execute(statements.LOAD, [key for key, _ in run], [value for _, value in run], version)
        await connection.execute(statements.RAISE, sequence)
        await transaction.commit()
    except BaseException:
        connection.terminate()
        raise
