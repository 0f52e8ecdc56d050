"""What a migration can come to.

MigrationError            shown to the operator
├── NoSuchMigration, MigrationRefused
├── Kept                  what is here stays: it is not (or no longer) the migration's own
├── NotMarked             the bucket does not know of the migration (any more)
├── SourceGone            the source has no such key
├── SourceChanged         the source's object is another one by now
├── SourceDenied          the source refuses this key
├── SourceWrong           the source's answer can't be right: bytes that its ETag belies, lengths that differ
├── SourceDown            no (whole) answer; another try may get one
└── SourceRefused         the source refuses everything: keys revoked, no such bucket, redirects, a listing in circles
"""

from __future__ import annotations

from core.errors import AtollError


class MigrationError(AtollError):
    """Base."""


class NoSuchMigration(MigrationError):
    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no migration {job_id}")


class MigrationRefused(MigrationError):
    """What was asked can't be done; the text says why."""


class Kept(MigrationError):
    """The key was written or deleted here, which counts more than what the source has."""


class NotMarked(MigrationError):
    """The bucket does not know of the migration: it ended, or the bucket was made anew."""


class SourceError(MigrationError):
    """Base of what sources do."""


class SourceGone(SourceError):
    pass


class SourceChanged(SourceError):
    pass


class SourceDenied(SourceError):
    pass


class SourceWrong(SourceError):
    pass


class SourceDown(SourceError):
    pass


class SourceRefused(SourceError):
    pass
