"""The first half of every pass: list the source and note each key that is missing or changed here.

One page of the source is one step: its keys, its continuation token and the counts are written together, so a process
that was killed goes on with the page after. A listing that goes in circles is told by Brent's method, which needs one
remembered page whatever the length of the circle.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from catalog.interface import Transaction
from core.clock import Clock
from engine.records import pack_etag
from engine.types import Bucket, ObjectInfo
from gateway.migrate.errors import SourceRefused
from gateway.migrate.jobs import Job, Jobs, next_phase, note_row, raw_key
from gateway.migrate.layout import (
    FAILED,
    KEPT,
    LISTING,
    NOTE_ROW,
    ORIGIN_ROW,
    RUNNING,
    Entry,
    JobRow,
    note_key,
    origin_key,
    pending_key,
    pending_row,
    tomb_key,
)
from gateway.migrate.pace import patiently
from gateway.migrate.source import Page, SourceClient
from gateway.s3.rules.naming import MAX_KEY

_CHUNK = 200  # keys of one transaction
_EMPTY_PAGES = 100  # that may follow one another


class Inventory:
    """Lists one job's source."""

    def __init__(self, jobs: Jobs, client: SourceClient, clock: Clock) -> None:
        self._jobs = jobs
        self._client = client
        self._clock = clock
        self._circle = Circle()

    async def step(self, job: Job, bucket: Bucket) -> Job:
        """Take in the next page. Raises what the source does, and SourceRefused for a listing that has no end."""
        row = job.row
        page = await patiently(lambda: self._client.list_page(row.prefix, row.token), row.patience)
        if not row.token:
            self._circle = Circle()  # a listing from the beginning
        self._circle.pass_by(page)
        queued = 0
        for start in range(0, len(page.entries), _CHUNK):
            queued += await self._note(job.id, bucket, page.entries[start : start + _CHUNK])
        listed = len(page.entries)

        def advance(present: JobRow) -> JobRow:
            if present.state != RUNNING or present.phase != LISTING:
                return present
            tallies = {**present.tallies, "listed": present.tallies.get("listed", 0) + listed}
            if not present.listed_once:
                tallies["found"] = tallies.get("found", 0) + listed
            tallies["queued"] = tallies.get("queued", 0) + queued
            after = msgspec.structs.replace(present, token=page.token, queued=present.queued + queued, tallies=tallies)
            return after if page.token else next_phase(after)

        return await self._jobs.change(job.id, advance)

    async def _note(self, job_id: bytes, bucket: Bucket, entries: Sequence[Entry]) -> int:
        """Write what is to be done about some keys; how many of them are new to do."""
        usable = [entry for entry in entries if not _unusable(entry.key)]
        latest = await self._jobs.store.latest_versions(bucket, [entry.key for entry in usable])
        now = self._clock.now_us()

        async def write(txn: Transaction) -> int:
            for entry in entries:
                if reason := _unusable(entry.key):
                    raw = raw_key(entry.key)
                    txn.put(note_key(job_id, raw), note_row(FAILED, entry.key, reason, now))
            keys = [entry.key.encode() for entry in usable]
            tombs = await txn.get_many([tomb_key(job_id, bucket.id, key) for key in keys])
            origins = await txn.get_many([origin_key(job_id, bucket.id, key) for key in keys])
            notes = await txn.get_many([note_key(job_id, key) for key in keys])
            queued = 0
            for entry, key, present, tomb, origin, note in zip(
                usable, keys, latest, tombs, origins, notes, strict=True
            ):
                verdict = _judge(entry, present, tomb, origin)
                if verdict == KEPT:
                    txn.put(note_key(job_id, key), note_row(KEPT, entry.key, "another object is here", now))
                if verdict:
                    txn.delete(pending_key(job_id, key))
                    continue
                txn.put(pending_key(job_id, key), pending_row(entry))
                if note is None or NOTE_ROW.decode(note).etag != pack_etag(entry.etag):
                    txn.delete(note_key(job_id, key))
                    queued += 1
            return queued

        return await self._jobs.catalog.transact(write)


def _unusable(key: str) -> str:
    """Why a key can't be one here, "" if it can."""
    raw = raw_key(key)
    if not raw:
        return "the key is empty"
    if len(raw) > MAX_KEY:
        return f"the key has {len(raw)} bytes, more than {MAX_KEY}"
    try:
        raw.decode()
    except UnicodeDecodeError:
        return "the key is no UTF-8"
    return ""


_DONE = "done"


def _judge(entry: Entry, present: ObjectInfo | None, tomb: bytes | None, origin: bytes | None) -> str:
    """ "" for a key that is to be copied, else why not: it is done (or deleted here), or what is here is kept."""
    if tomb is not None or (present is not None and present.delete_marker):
        return _DONE
    if present is None:
        return ""
    if origin is not None:
        copied = ORIGIN_ROW.decode(origin)
        if copied.version_us == present.modified_us:
            same = copied.etag == pack_etag(entry.etag) and copied.size == entry.size
            return _DONE if same else ""
    if present.etag == entry.etag and present.size == entry.size:
        return _DONE
    return KEPT


class Circle:
    """Tells a listing that repeats itself or gives nothing for ever."""

    def __init__(self) -> None:
        self._token = self._first = ""  # of the remembered page
        self._steps, self._limit, self._empty = 0, 1, 0

    def pass_by(self, page: Page) -> None:
        """Raises SourceRefused."""
        if not page.token:
            return
        self._empty = 0 if page.entries else self._empty + 1
        if self._empty > _EMPTY_PAGES:
            raise SourceRefused("the source's listing goes on without keys")
        first = page.entries[0].key if page.entries else ""
        # In a circle either comes again: the token, or (under fresh tokens) the page.
        if page.token == self._token or (first and first == self._first):
            raise SourceRefused("the source's listing goes in circles")
        self._steps += 1
        if self._steps == self._limit:
            self._token, self._first = page.token, first
            self._steps, self._limit = 0, self._limit * 2
