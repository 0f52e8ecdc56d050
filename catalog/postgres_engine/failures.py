"""What the database's errors mean for us.

Three kinds: a *conflict* (nothing happened, the same again may succeed), a *lost* connection or a server that can't
serve now (what a statement did is unknown unless it was a read), and what is final. Texts of the server may hold
values, so of those errors only the SQLSTATE and the kind are told.
"""

from __future__ import annotations

from typing import Final

import asyncpg

from catalog.errors import CatalogError, CatalogFailed, CatalogFull, CatalogMoving, CatalogUnavailable

#: serialization_failure, deadlock_detected, transaction_rollback
_CONFLICTS: Final = frozenset({"40001", "40P01", "40000"})
#: admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped, idle_session_timeout,
#: idle_in_transaction_session_timeout, statement_completion_unknown, read_only_sql_transaction (a server that lost
#: its leading part), too_many_connections
_LOST: Final = frozenset({"57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "40003", "25006", "53300"})
_FULL: Final = frozenset({"53100", "53000"})
_CANCELLED: Final = "57014"
_TAKEN: Final = "23505"
#: check_violation: the only checks that the tables ever have are those of a catalog that was moved (retiring.py).
_FORBIDDEN: Final = "23514"


def sqlstate(error: BaseException) -> str:
    """The five characters, or "" where the error is none of the server's."""
    return str(getattr(error, "sqlstate", None) or "")


def is_conflict(error: BaseException) -> bool:
    """The transaction collided with another; nothing of it happened."""
    return sqlstate(error) in _CONFLICTS


def is_taken(error: BaseException) -> bool:
    """A key that was to be new is there."""
    return sqlstate(error) == _TAKEN


def is_lost(error: BaseException) -> bool:
    """The connection is of no use any more; what the statement did is unknown."""
    state = sqlstate(error)
    if state:
        return state in _LOST or state.startswith("08")
    # asyncpg's own: used after it was closed, and the system's.
    return isinstance(error, (OSError, EOFError, asyncpg.InterfaceError, asyncpg.InternalClientError))


def translate(error: BaseException) -> CatalogError:
    """A final failure in our words, without the server's text."""
    state = sqlstate(error)
    if state in _FULL:
        return CatalogFull("no space for the catalog's database")
    if state == _FORBIDDEN:
        return CatalogMoving("the catalog was moved to another place")
    if state == _CANCELLED:
        return CatalogUnavailable("the catalog's database took too long")
    if is_lost(error):
        return CatalogUnavailable(f"the catalog's database can't be reached ({type(error).__name__})")
    return CatalogFailed(f"the catalog's database refuses: {type(error).__name__} ({state or 'no SQLSTATE'})")
