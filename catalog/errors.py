"""What the catalog refuses or can't do.

CatalogError
├── Conflict         a transaction kept colliding with others and was given up; nothing was written
├── CommitUnknown    the outcome of a commit can't be told: re-read for your own ids before acting on it
├── FeedTrimmed      the change feed no longer reaches back that far: read everything anew
├── CatalogFull      no space for the write; nothing was written, reads go on, later writes may succeed
├── CatalogUnavailable  the database can't be reached now; nothing was written, later calls may succeed
│   └── CatalogMoving    the catalog moves to another place, or was moved: it takes no writes
├── CatalogFailed    a failed write or sync of the engine's file: no writes until the catalog is opened anew
├── CatalogClosed    used after close
├── CatalogMisuse    a function given to read or transact awaited something else than the reader
├── LeaseLost        somebody else may hold the lease now
├── EpochLost        this process was declared dead and must not commit
├── CopyRefused      a catalog can't be copied to where it is to go; nothing of the source was changed
├── CopyDiffers      a copy does not hold what its source holds
└── BackupDamaged    a backup that is cut short or altered
StartRefused (core)
├── Corrupt          bytes that no version of the program wrote
├── FutureVersion    written by a newer version of the program
└── Locked           another process has this catalog open
"""

from __future__ import annotations

from typing import Final

from core.errors import AtollError, StartRefused


class CatalogError(AtollError):
    """Base of the catalog's errors."""


class Conflict(CatalogError):
    """The transaction collided with others more often than the engine retries. Nothing was written."""


class CommitUnknown(CatalogError):
    """The connection was lost at COMMIT; the writes may be there or not."""


class FeedTrimmed(CatalogError):
    """Changes after the wanted sequence are gone. `oldest` is the smallest `after` that still works."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"the change feed is trimmed up to sequence {oldest}")
        self.oldest = oldest


class CatalogFull(CatalogError):
    """No space left for the write. Nothing was written; reads go on."""


class CatalogUnavailable(CatalogError):
    """The database behind the catalog can't be reached now, or has no connection free. Nothing was written."""


class CatalogMoving(CatalogUnavailable):
    """The catalog takes no writes, because it is being moved to another place, or was. Nothing was written."""


class CatalogFailed(CatalogError):
    """The engine's file could not be written or synced. What the disk holds of it is unknown to this process, so it
    refuses every further write until it is opened anew."""


#: After these the writes of a transaction may be there, now or when the catalog is opened anew: nothing that they name
#: may be thrown away.
IN_DOUBT: Final = (CommitUnknown, CatalogFailed)


class CatalogClosed(CatalogError):
    """The catalog is closed or closing."""


class CatalogMisuse(CatalogError):
    """A function given to `read` or `transact` awaited something else than the reader's own methods."""


class LeaseLost(CatalogError):
    """The lease expired and was taken, or was released."""


class EpochLost(CatalogError):
    """This process's epoch was marked dead: its uncommitted pieces may be collected, so it must not commit."""


class CopyRefused(CatalogError):
    """The catalog can't be copied there, or not now. The source goes on as before."""


class CopyDiffers(CatalogError):
    """A copy was compared with its source, row by row, and is not the same. The source goes on as before."""


class BackupDamaged(CatalogError):
    """A backup that is truncated, altered or not a backup at all. Nothing was restored."""


class Corrupt(StartRefused, CatalogError):
    """Stored bytes that no version of the program wrote."""


class FutureVersion(StartRefused, CatalogError):
    """Stored bytes that only a newer version of the program can read."""


class Locked(StartRefused, CatalogError):
    """Another process has the catalog's folder open."""
