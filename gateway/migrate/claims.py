"""What is here counts more than what the source has: the rules of every commit into a bucket that is being filled.

They are judged in the transaction that changes the key, so no order of a copy, a PUT and a DELETE can bring an old
object back: a copy goes in only where the key is empty and was not deleted, or holds an earlier copy that nobody
touched. The key's row of what is still to come goes in the same transaction, so that listings show it exactly once.
"""

from __future__ import annotations

from catalog.interface import Transaction
from engine.ports import Admission
from engine.records import pack_etag
from engine.types import Bucket, ObjectInfo
from gateway.migrate.errors import Kept, NotMarked
from gateway.migrate.layout import (
    ORIGIN_ROW,
    Mark,
    OriginRow,
    mark_of,
    note_key,
    origin_key,
    pending_key,
    tomb_key,
)
from gateway.migrate.source import Found


def admission(job_id: bytes, found: Found) -> Admission:
    """Lets a copy of `found` in where the rules above allow it. Raises Kept, NotMarked."""

    async def admit(txn: Transaction, bucket: Bucket, present: ObjectInfo | None, new: ObjectInfo) -> None:
        mark = mark_of(bucket)
        if mark is None or mark.job_id != job_id:
            raise NotMarked("the bucket does not know of the migration")
        key = new.key.encode()
        place = origin_key(job_id, bucket.id, key)
        tomb, origin = await txn.get_many([tomb_key(job_id, bucket.id, key), place])
        if tomb is not None or (present is not None and present.delete_marker):
            raise Kept("it was deleted here")
        if present is not None and (origin is None or ORIGIN_ROW.decode(origin).version_us != present.modified_us):
            raise Kept("it was written here")
        row = OriginRow(
            etag=pack_etag(found.etag), size=found.size, modified_us=found.modified_us, version_us=new.modified_us
        )
        txn.put(place, ORIGIN_ROW.encode(row))
        txn.delete(pending_key(job_id, key))
        txn.delete(note_key(job_id, key))

    return admit


class DeletionObserver:
    """Remembers what is deleted in buckets that are being filled (engine.ports.CommitObserver, AbsenceObserver)."""

    def heeds(self, bucket: Bucket) -> bool:
        return bool(bucket.settings)

    async def committed(self, txn: Transaction, bucket: Bucket, new: ObjectInfo, replaced: ObjectInfo | None) -> None:
        if bucket.settings and new.delete_marker:
            _bury(txn, bucket, new.key)

    async def copied(
        self, txn: Transaction, bucket: Bucket, new: ObjectInfo, source: ObjectInfo, replaced: ObjectInfo | None
    ) -> None:
        """A copy made here hides the source's object as any write does."""

    async def removed(self, txn: Transaction, bucket: Bucket, old: ObjectInfo) -> None:
        if not bucket.settings:
            return
        if old.delete_marker:
            mark = mark_of(bucket)
            if mark is not None:  # undeleted: what lay below the marker may be at the source
                txn.delete(tomb_key(mark.job_id, bucket.id, old.key.encode()))
        else:
            _bury(txn, bucket, old.key)

    async def absent(self, txn: Transaction, bucket: Bucket, key: str) -> None:
        if bucket.settings:
            _bury(txn, bucket, key)


def _bury(txn: Transaction, bucket: Bucket, key: str) -> None:
    mark: Mark | None = mark_of(bucket)
    if mark is not None:
        raw = key.encode()
        txn.put(tomb_key(mark.job_id, bucket.id, raw), b"")
        txn.delete(pending_key(mark.job_id, raw))
        txn.delete(note_key(mark.job_id, raw))
