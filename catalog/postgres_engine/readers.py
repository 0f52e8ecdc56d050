"""What the functions given to `read` see: a consistent state of what is committed.

Most of these functions read a few rows by key. `PlainReader` serves them statement by statement, outside a transaction,
and notes the version of each row that it showed; when it took more than one statement, all versions are looked at again
in one, and if any differs the function runs again. `SnapshotReader` reads in a transaction of one snapshot: for scans
that belong to other reads, and for long work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, Final

from catalog.interface import Row
from catalog.postgres_engine import statements
from catalog.postgres_engine.database import Database
from catalog.postgres_engine.grouping import Lanes

_SCANS: Final = {
    (reverse, keys_only): statements.scan(reverse=reverse, keys_only=keys_only)
    for reverse in (False, True)
    for keys_only in (False, True)
}


def scan_statement(*, reverse: bool, keys_only: bool) -> str:
    """The statement of a scan."""
    return _SCANS[reverse, keys_only]


class NeedsSnapshot(BaseException):
    """Ends a function that `PlainReader` can't serve. No Exception, so that functions don't handle it."""


class PlainReader:
    """A reader outside a transaction; see the module."""

    __slots__ = ("_database", "_lanes", "_scanned", "statements", "versions")

    def __init__(self, database: Database, lanes: Lanes) -> None:
        self._database = database
        self._lanes = lanes
        self._scanned = False
        self.statements = 0
        #: Each key that was shown, with its version; 0 for none.
        self.versions: dict[bytes, int] = {}

    async def get(self, key: bytes) -> bytes | None:
        return (await self.get_many((key,)))[0]

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if self._scanned:
            raise NeedsSnapshot
        if not keys:
            return []
        self.statements += 1
        found = await self._lanes.request(keys)
        values: list[bytes | None] = []
        for key in keys:
            row = found.get(key)
            version = 0 if row is None else row[2]
            if self.versions.setdefault(key, version) != version:
                raise NeedsSnapshot
            values.append(None if row is None else row[1])
        return values

    async def scan(
        self, start: bytes, end: bytes, *, limit: int, reverse: bool = False, keys_only: bool = False
    ) -> list[Row]:
        if limit <= 0 or start >= end:
            return []
        if self.statements:
            raise NeedsSnapshot
        self._scanned = True
        self.statements += 1
        statement = scan_statement(reverse=reverse, keys_only=keys_only)
        return [(row[0], row[1]) for row in await self._database.fetch(statement, start, end, limit)]


class SnapshotReader:
    """A reader in a transaction of one snapshot on one connection."""

    __slots__ = ("_connection", "_patience", "failure")

    def __init__(self, connection: Any, patience: float) -> None:
        """`patience`: seconds for the answer of each statement."""
        self._connection = connection
        self._patience = patience
        #: What ended a statement: the connection is of no use then, and what the function makes of it doesn't count.
        self.failure: BaseException | None = None

    async def begin(self) -> None:
        """Take the snapshot, before anything else. Raises what asyncpg does."""
        async with asyncio.timeout(self._patience):
            await self._connection.execute(statements.SNAPSHOT)

    async def get(self, key: bytes) -> bytes | None:
        rows = await self._fetch(statements.GET, [key])
        return rows[0][1] if rows else None

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        found = {row[0]: row[1] for row in await self._fetch(statements.GET, list(keys))}
        return [found.get(key) for key in keys]

    async def scan(
        self, start: bytes, end: bytes, *, limit: int, reverse: bool = False, keys_only: bool = False
    ) -> list[Row]:
        if limit <= 0 or start >= end:
            return []
        rows = await self._fetch(scan_statement(reverse=reverse, keys_only=keys_only), start, end, limit)
        return [(row[0], row[1]) for row in rows]

    async def _fetch(self, statement: str, *arguments: object) -> list[Any]:
        try:
            async with asyncio.timeout(self._patience):
                rows: list[Any] = await self._connection.fetch(statement, *arguments)
                return rows
        except BaseException as error:
            self.failure = error
            raise


class Habits:
    """Which functions were seen to need a snapshot, by their code, so that they get one at once."""

    def __init__(self) -> None:
        self._snapshots: set[CodeType] = set()

    def needs_snapshot(self, function: Callable[..., Any]) -> bool:
        return getattr(function, "__code__", None) in self._snapshots

    def note(self, function: Callable[..., Any]) -> None:
        code = getattr(function, "__code__", None)
        if code is not None:
            self._snapshots.add(code)
