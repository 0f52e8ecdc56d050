"""The tables, and how they change while gateways of the old and the new version serve.

Tables: `atoll_rows` holds every row of the catalog; `version` is a random number of the commit that wrote the row.
`atoll_outbox` holds commits that have no number yet: id, and the keys for the feed. `atoll_sequence` is one row with
the newest number. `atoll_numbered` remembers for a while which commits were numbered. `atoll_meta` holds two numbers:
`schema`, the newest step that was applied, and `needs`, the oldest program that can still use the tables.

A step is a list of statements that may run again, each in a transaction of its own, and must leave the tables usable
for programs of the schema before it, unless it raises `needs`. What takes something away (a contraction) therefore
comes in a later release than what adds its successor, when no gateway of the old version is left: sessions are named
after their program's schema, and a contraction is refused while one is there that it would leave behind.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from catalog.errors import Corrupt, FutureVersion
from catalog.postgres_engine.failures import is_conflict, sqlstate
from core.errors import StartRefused

log = logging.getLogger("atoll.catalog")

#: undefined_table
_ABSENT: Final = "42P01"
#: Two gateways that make the tables at once: unique_violation in the system's own tables, duplicate_table, tuple
#: concurrently updated.
_RACES: Final = frozenset({"23505", "42P07", "42710", "XX000"})
_ATTEMPTS: Final = 20
#: How often to look, in steps of a tenth of a second, whether older programs are gone: a server notices late that a
#: session was closed.
_LOOKS: Final = 50
_SESSION: Final = "atoll schema "


@dataclass(frozen=True, slots=True)
class Step:
    """Schema `number`: `always`, then `postgres_only` on PostgreSQL itself. `needs`: the oldest program that can use
    the result."""

    number: int
    needs: int
    always: Sequence[str]
    postgres_only: Sequence[str] = ()


STEPS: Final = (
    Step(
        1,
        1,
        always=(
            "CREATE TABLE IF NOT EXISTS atoll_rows"
            " (key bytea PRIMARY KEY, value bytea NOT NULL, version bigint NOT NULL)",
            "CREATE TABLE IF NOT EXISTS atoll_outbox"
            " (id bytea PRIMARY KEY, keys bytea NOT NULL, void boolean NOT NULL)",
            "CREATE TABLE IF NOT EXISTS atoll_numbered (id bytea PRIMARY KEY, void boolean NOT NULL)",
            "CREATE TABLE IF NOT EXISTS atoll_sequence (one integer PRIMARY KEY, number bigint NOT NULL)",
            "INSERT INTO atoll_sequence (one, number) VALUES (1, 0) ON CONFLICT (one) DO NOTHING",
        ),
        postgres_only=(
            # Sealed bytes don't compress. Room in the pages keeps an overwrite off the index.
            "ALTER TABLE atoll_rows ALTER COLUMN value SET STORAGE EXTERNAL",
            "ALTER TABLE atoll_rows SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05)",
            # Queues: hardly a row is live, so what is dead must go soon.
            "ALTER TABLE atoll_outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)",
            "ALTER TABLE atoll_sequence SET (fillfactor = 10, autovacuum_vacuum_threshold = 1000)",
        ),
    ),
)

#: What this program makes.
SCHEMA: Final = STEPS[-1].number

#: What this program's sessions are called (`application_name`).
SESSION_NAME: Final = f"{_SESSION}{SCHEMA}"

_META: Final = "CREATE TABLE IF NOT EXISTS atoll_meta (name text PRIMARY KEY, value bigint NOT NULL)"
_READ: Final = "SELECT name, value FROM atoll_meta"
_BEGIN: Final = "INSERT INTO atoll_meta (name, value) VALUES ('schema', 0), ('needs', 1) ON CONFLICT (name) DO NOTHING"
_NEEDS: Final = "UPDATE atoll_meta SET value = $1 WHERE name = 'needs' AND value < $1"
_SESSIONS: Final = (
    "SELECT coalesce(application_name, ''), coalesce(host(client_addr), 'this machine') FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_DONE: Final = "UPDATE atoll_meta SET value = $1 WHERE name = 'schema' AND value < $1"


async def prepare(connection: Any, *, may_create: bool, steps: Sequence[Step] = STEPS) -> None:
    """Bring the tables up to this program. Raises FutureVersion when a newer one has changed them beyond its
    understanding, StartRefused when there are none and none may be made or when an older program that could not go on
    still uses them, Corrupt when they are not ours."""
    postgres = is_postgres(await connection.fetchval("SELECT version()"))
    if postgres and await connection.fetchval("SHOW fsync") == "off":
        log.warning("the catalog's database runs with fsync off: a crash of its machine loses what was acknowledged")
    for attempt in range(_ATTEMPTS):
        try:
            await _prepare(connection, may_create, steps, postgres)
            return
        except Exception as error:
            if not (is_conflict(error) or sqlstate(error) in _RACES) or attempt == _ATTEMPTS - 1:
                raise
        await asyncio.sleep(random.uniform(0, 0.1))  # noqa: S311 - jitter


def is_postgres(version: str) -> bool:
    """Whether `SELECT version()` is PostgreSQL's own, not of a database that speaks its protocol."""
    return version.startswith("PostgreSQL") and "YB" not in version


async def _prepare(connection: Any, may_create: bool, steps: Sequence[Step], postgres: bool) -> None:
    found = await _read(connection)
    if not found:
        if not may_create:
            raise StartRefused("the database holds no catalog")
        await connection.execute(_META)
        await connection.execute(_BEGIN)
        found = await _read(connection)
    stored, needs = found.get("schema"), found.get("needs")
    if stored is None or needs is None:
        raise Corrupt("the database holds a table atoll_meta that is not a catalog's")
    newest = steps[-1].number
    if needs > newest:
        raise FutureVersion(
            f"the catalog has schema {stored}, which needs a program of schema {needs} or newer; this one has {newest}"
        )
    for step in steps:
        if step.number > stored:
            if step.needs > needs:
                await _leave_behind(connection, step.needs, postgres)
            await _apply(connection, step, postgres)


async def _leave_behind(connection: Any, needs: int, postgres: bool) -> None:
    """From here on no program below schema `needs` starts, and none runs. Raises StartRefused."""
    if postgres:
        await _see_none_below(connection, needs)
    # Raised before any statement that may hinder an older program.
    await connection.execute(_NEEDS, needs)
    if postgres:
        await _see_none_below(connection, needs)  # one that looked before it was raised has its session by now


async def _see_none_below(connection: Any, needs: int) -> None:
    for _ in range(_LOOKS):
        hosts = {host for name, host in await connection.fetch(_SESSIONS) if _schema_of(name) < needs}
        if not hosts:
            return
        await asyncio.sleep(0.1)
    raise StartRefused(
        f"gateways of an older version still use the catalog, from {', '.join(sorted(hosts))}, and could not go on "
        "after what this version has to change: stop them, then start this one again"
    )


def _schema_of(session: str) -> float:
    """What a session's program knows; more than anything for one that is none of ours."""
    number = session.removeprefix(_SESSION)
    return int(number) if number != session and number.isdecimal() else float("inf")


async def _apply(connection: Any, step: Step, postgres: bool) -> None:
    for statement in (*step.always, *(step.postgres_only if postgres else ())):
        await connection.execute(statement)
    await connection.execute(_DONE, step.number)


async def _read(connection: Any) -> dict[str, int]:
    try:
        return {row[0]: row[1] for row in await connection.fetch(_READ)}
    except Exception as error:
        if sqlstate(error) == _ABSENT:
            return {}
        raise
