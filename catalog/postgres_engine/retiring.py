"""Tables that take no commit any more: the catalog was moved to another place.

Every commit inserts into or updates `atoll_rows`, or announces what it deleted in `atoll_outbox`. A constraint on each
that no such row can meet refuses them all, whoever sends them: a gateway that was paused all the while, or one of an
earlier version. Rows stay readable. The constraints come with the row that tells where the catalog went, and only if
nothing was committed since it was copied, all in one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from catalog.errors import CommitUnknown
from catalog.interface import Row
from catalog.postgres_engine.connections import Connector
from catalog.postgres_engine.database import Backoff
from catalog.postgres_engine.failures import is_conflict, is_lost, sqlstate, translate

#: duplicate_object: the constraint is there.
_THERE: Final = "42710"

_FORBID_ROWS: Final = "ALTER TABLE atoll_rows ADD CONSTRAINT atoll_moved CHECK (false) NOT VALID"
_FORBID_OUTBOX: Final = "ALTER TABLE atoll_outbox ADD CONSTRAINT atoll_moved CHECK (void) NOT VALID"
_ALLOW: Final = (
    "ALTER TABLE atoll_rows DROP CONSTRAINT IF EXISTS atoll_moved",
    "ALTER TABLE atoll_outbox DROP CONSTRAINT IF EXISTS atoll_moved",
)
_MARK: Final = """
INSERT INTO atoll_rows (key, value, version) VALUES ($1, $2, 1)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version
"""
#: Whether number $1 is the newest, everything is numbered, and the rows $2 still have the values $3.
_UNCHANGED: Final = """
SELECT (SELECT number FROM atoll_sequence WHERE one = 1) = $1
    AND NOT EXISTS (SELECT 1 FROM atoll_outbox WHERE NOT void)
    AND NOT EXISTS (
        SELECT 1 FROM unnest($2::bytea[], $3::bytea[]) AS e(key, value)
        WHERE NOT EXISTS (SELECT 1 FROM atoll_rows r WHERE r.key = e.key AND r.value = e.value)
    )
"""


async def forbid_commits(
    connector: Connector, mark: Row, *, sequence: int, unchanged: Sequence[Row], backoff: Backoff
) -> bool:
    """Put `mark` and refuse every commit from then on; False, with nothing done, where something was committed since
    `sequence` or one of the rows `unchanged` is another. Raises CatalogUnavailable where that could not be begun, and
    CommitUnknown where its outcome can't be told."""
    sent = False
    while True:
        connection: Any = None
        try:
            connection = await connector.connect()
            async with asyncio.timeout(connector.patience):
                return await _forbid(connection, mark, sequence, unchanged)
        except Exception as error:
            if sqlstate(error) == _THERE:
                return True  # of an attempt whose outcome was not heard
            lost = is_lost(error)
            sent = sent or (lost and connection is not None)  # the last statement may have gone through
            if not (lost or is_conflict(error)) or backoff.over:
                if sent:
                    raise CommitUnknown("whether the catalog was retired is not known") from None
                raise translate(error) from None
        finally:
            if connection is not None:
                connection.terminate()
        await backoff.pause()


async def _forbid(connection: Any, mark: Row, sequence: int, unchanged: Sequence[Row]) -> bool:
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(_MARK, *mark)
    await connection.execute(_FORBID_ROWS)
    await connection.execute(_FORBID_OUTBOX)
    keys, values = [key for key, _ in unchanged], [value for _, value in unchanged]
    if not await connection.fetchval(_UNCHANGED, sequence, keys, values):
        await transaction.rollback()
        return False
    await transaction.commit()
    return True


async def allow_commits(connector: Connector) -> None:
    """Take the constraints away, if they are there. Raises CatalogUnavailable or CatalogFailed."""
    connection: Any = None
    try:
        connection = await connector.connect()
        async with asyncio.timeout(connector.patience), connection.transaction():
            for statement in _ALLOW:
                await connection.execute(statement)
    except Exception as error:
        raise translate(error) from None
    finally:
        if connection is not None:
            connection.terminate()
