"""How `read` runs its functions: without a transaction as long as that shows one state, else in a snapshot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from catalog.errors import CatalogError
from catalog.interface import Reader
from catalog.postgres_engine import statements
from catalog.postgres_engine.database import Database
from catalog.postgres_engine.failures import is_conflict, is_lost, translate
from catalog.postgres_engine.grouping import Lanes
from catalog.postgres_engine.readers import Habits, NeedsSnapshot, PlainReader, SnapshotReader

T = TypeVar("T")

_PLAIN_READS: Final = 3
_LANES: Final = 2


class Reading:
    """The reads of one process. `rows`: the lanes for rows by key; `patience`: seconds for a statement's answer."""

    def __init__(self, database: Database, rows: Lanes, patience: float) -> None:
        self._database = database
        self._rows = rows
        self._versions = Lanes(database.fetch, statements.VERSIONS, _LANES)
        self._habits = Habits()
        self._patience = patience

    async def read(self, function: Callable[[Reader], Awaitable[T]], *, long: bool) -> T:
        """Run the function on one state of what is committed. Raises its errors, or CatalogUnavailable."""
        if not long and not self._habits.needs_snapshot(function):
            for _ in range(_PLAIN_READS):
                reader = PlainReader(self._database, self._rows)
                error: Exception | None = None
                result: T | None = None
                try:
                    result = await function(reader)
                except NeedsSnapshot:
                    self._habits.note(function)
                    break
                except Exception as raised:
                    error = raised
                try:
                    if reader.statements <= 1 or await self._still(reader.versions):
                        if error is not None:
                            raise error
                        return result  # type: ignore[return-value]
                finally:
                    error = None  # its traceback refers to this frame
        return await self._read_snapshot(function)

    async def close(self) -> None:
        """End what runs."""
        await self._versions.close()

    async def _still(self, versions: dict[bytes, int]) -> bool:
        """Whether all of these keys have these versions at one instant."""
        found = await self._versions.request(list(versions))
        return all((row[1] if (row := found.get(key)) else 0) == version for key, version in versions.items())

    async def _read_snapshot(self, function: Callable[[Reader], Awaitable[T]]) -> T:
        backoff = self._database.backoff()
        while True:
            try:
                return await self._read_once(function)
            except _Failed as failed:
                cause = failed.cause
            if isinstance(cause, CatalogError):
                raise cause
            if not (is_lost(cause) or is_conflict(cause)) or backoff.over:
                raise translate(cause) from None
            await backoff.pause()

    async def _read_once(self, function: Callable[[Reader], Awaitable[T]]) -> T:
        """Run the function in a transaction. Raises its errors, and _Failed for those of the connection."""
        error: Exception | None = None
        result: T | None = None
        try:
            async with self._database.use() as connection:
                reader = SnapshotReader(connection, self._patience)
                await reader.begin()
                try:
                    result = await function(reader)
                except Exception as raised:
                    error = raised
                if reader.failure is not None:
                    connection.terminate()
                else:
                    await _end(connection)
        except CatalogError:
            raise
        except Exception as raised:
            raise _Failed(raised) from None
        try:
            if reader.failure is not None:
                raise _Failed(reader.failure) from None
            if error is not None:
                raise error
            return result  # type: ignore[return-value]
        finally:
            error = None  # its traceback refers to this frame


class _Failed(Exception):
    """The connection, not the function, failed."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause


async def _end(connection: Any) -> None:
    """End a transaction that only read."""
    try:
        await connection.execute("COMMIT")
    except Exception:
        connection.terminate()
