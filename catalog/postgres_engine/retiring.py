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

from catalog.errors import CatalogUnavailable, CommitUnknown
from catalog.interface import Row
from catalog.postgres_engine.connections import Connector
from catalog.postgres_engine.database import Backoff
from catalog.postgres_engine.failures import is_conflict, is_lost, sqlstate, translate

#: check_violation, duplicate_object: the constraint is there.
_THERE: Final = frozenset({"23514", "42710"})
#: lock_not_available
_LOCKED: Final = "55P03"

#: While a statement waits for the whole table, all others wait behind it: not for longer than this. It is more than
#: `deadlock_timeout`, after which a vacuum gives way.
_BOUND: Final = "SET LOCAL lock_timeout = '3s'"

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
    in_doubt = False
    while True:
        attempt = _Attempt()
        try:
            async with asyncio.timeout(connector.patience):
                return await attempt.run(connector, mark, sequence, unchanged)
        except Exception as error:
            if in_doubt and sqlstate(error) in _THERE:
                return True  # by the attempt whose outcome was not heard
            in_doubt = in_doubt or (attempt.committing and is_lost(error))
            locked = sqlstate(error) == _LOCKED
            if not (locked or is_lost(error) or is_conflict(error)) or backoff.over:
                if in_doubt:
                    raise CommitUnknown("whether the catalog was retired is not known") from None
                if locked:
                    raise CatalogUnavailable(
                        "a long read holds the catalog's tables: a backup, or a gateway that stands still"
                    ) from None
                raise translate(error) from None
        finally:
            attempt.end()
        await backoff.pause()


class _Attempt:
    """One transaction on a connection of its own. Once `committing`, it may have gone through, whatever is heard."""

    def __init__(self) -> None:
        self._connection: Any = None
        self.committing = False

    async def run(self, connector: Connector, mark: Row, sequence: int, unchanged: Sequence[Row]) -> bool:
        connection = self._connection = await connector.connect()
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(_BOUND)
        await connection.execute(_MARK, *mark)
        # From here on nobody else reads or writes: what is looked at next is what it stays.
        await connection.execute(_FORBID_ROWS)
        await connection.execute(_FORBID_OUTBOX)
        keys, values = [key for key, _ in unchanged], [value for _, value in unchanged]
        if not await connection.fetchval(_UNCHANGED, sequence, keys, values):
            await transaction.rollback()
            return False
        self.committing = True
        await transaction.commit()
        return True

    def end(self) -> None:
        if self._connection is not None:
            self._connection.terminate()


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
