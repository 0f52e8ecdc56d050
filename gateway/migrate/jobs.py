"""The durable rows of migrations: begin, look, change, end.

An operator's change of state and the worker's progress meet in the job's row, each in a transaction of its own that
rewrites only what it is about.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from accounts.types import SecretWrapper
from catalog.errors import Corrupt
from catalog.interface import Catalog, Reader, Transaction
from catalog.keys import prefix_end
from core.clock import Clock
from engine.errors import NoSuchBucket
from engine.store import ObjectStore
from engine.types import Bucket
from gateway.migrate.errors import MigrationRefused, NoSuchMigration
from gateway.migrate.layout import (
    COMPLETE,
    COPYING,
    ENDED,
    ENDING,
    FAILED,
    ID,
    JOB,
    JOB_ROW,
    LISTING,
    NOTE,
    NOTE_ROW,
    ORIGIN,
    PAUSED,
    PENDING,
    RUNNING,
    SETTING,
    TOMB,
    JobRow,
    Mark,
    NoteRow,
    SourceSpec,
    job_key,
    mark_of,
    note_key,
)
from gateway.migrate.source import Source

#: Why a job pauses that nothing is wrong with.
BY_OPERATOR = "paused by the operator"
#: Passes after which a source that never rests is left to the operator.
MAX_PASSES = 20
_PAGE = 500
_SECRET_CONTEXT = b"atoll/migrate/1"


@dataclass(frozen=True, slots=True)
class Job:
    id: bytes
    row: JobRow


@dataclass(frozen=True, slots=True)
class Plan:
    """What a new migration shall be; see `JobRow`."""

    source: Source
    target: str
    prefix: str = ""
    concurrency: int = 8
    bandwidth: int = 0
    patience: float = 120.0
    read_through: bool = False
    md5_etags: bool = True


class _Secrets(msgspec.Struct, array_like=True):
    secret: str
    session_token: str


class Jobs:
    """All jobs of the deployment. `wrapper` seals the sources' secrets. `catalog` is the fenced one where work runs."""

    def __init__(self, catalog: Catalog, store: ObjectStore, wrapper: SecretWrapper, clock: Clock) -> None:
        self.catalog = catalog
        self.store = store
        self._wrapper = wrapper
        self._clock = clock

    async def begin(self, plan: Plan) -> Job:
        """Make a job and tell its bucket. Raises MigrationRefused, NoSuchBucket."""
        if not 1 <= plan.concurrency <= 64:
            raise MigrationRefused("concurrency must be 1 to 64")
        if plan.bandwidth < 0 or not 0 < plan.patience <= 86_400:
            raise MigrationRefused("bandwidth must not be negative, patience 1 second to a day")
        bucket = await self._bucket(plan.target)
        job_id, now, source = os.urandom(ID), self._clock.now_us(), plan.source
        secrets = msgspec.msgpack.encode(_Secrets(source.secret, source.session_token))
        spec = SourceSpec(
            source.url,
            source.bucket,
            source.region,
            source.virtual_host,
            source.access_key_id,
            self._wrapper.wrap(secrets, _SECRET_CONTEXT + job_id) if source.access_key_id else b"",
        )
        row = JobRow(
            created_us=now,
            updated_us=now,
            source=spec,
            target=plan.target,
            target_id=bucket.id,
            prefix=plan.prefix,
            concurrency=plan.concurrency,
            bandwidth=plan.bandwidth,
            patience=plan.patience,
            read_through=plan.read_through,
            md5_etags=plan.md5_etags,
            state=PAUSED,  # until its bucket knows of it
            reason="it was cut short while it began",
        )

        async def write(txn: Transaction) -> None:
            txn.put(job_key(job_id), JOB_ROW.encode(row))

        await self.catalog.transact(write)
        try:
            await self._mark(job_id, row)
        except MigrationRefused:
            await self._remove(job_id)
            raise
        return await self.change(job_id, lambda made: msgspec.structs.replace(made, state=RUNNING, reason=""))

    async def all(self) -> list[Job]:
        """Every job, oldest first."""

        async def look(reader: Reader) -> list[Job]:
            jobs: list[Job] = []
            start = JOB
            while rows := await reader.scan(start, prefix_end(JOB), limit=_PAGE):
                jobs.extend(Job(key[len(JOB) :], JOB_ROW.decode(value)) for key, value in rows)
                start = rows[-1][0] + b"\0"
            return jobs

        return sorted(await self.catalog.read(look), key=lambda job: job.row.created_us)

    async def get(self, job_id: bytes) -> Job:
        """Raises NoSuchMigration."""

        async def look(reader: Reader) -> bytes | None:
            return await reader.get(job_key(job_id))

        raw = await self.catalog.read(look)
        if raw is None:
            raise NoSuchMigration(job_id.hex())
        return Job(job_id, JOB_ROW.decode(raw))

    async def change(self, job_id: bytes, function: Callable[[JobRow], JobRow]) -> Job:
        """Rewrite a job's row in one transaction; `function` may raise to refuse. Raises NoSuchMigration."""
        now = self._clock.now_us()

        async def rewrite(txn: Transaction) -> Job:
            return Job(job_id, await rewrite_row(txn, job_id, function, now))

        return await self.catalog.transact(rewrite)

    async def pause(self, job_id: bytes, reason: str) -> Job:
        """Stop until `resume`; `reason` is shown. Raises MigrationRefused."""

        def pause(row: JobRow) -> JobRow:
            if row.state != RUNNING:
                raise MigrationRefused(f"the migration is {row.state}")
            return msgspec.structs.replace(row, state=PAUSED, reason=reason)

        return await self.change(job_id, pause)

    async def resume(self, job_id: bytes, source: Source | None = None) -> Job:
        """Go on after a pause, or make another pass; keys that failed are tried again. With `source` only its keys are
        taken. Raises MigrationRefused."""

        def resume(row: JobRow) -> JobRow:
            if row.state not in (PAUSED, COMPLETE):
                raise MigrationRefused(f"the migration is {row.state}")
            if row.state == PAUSED and row.phase == LISTING and row.reason != BY_OPERATOR:
                row = msgspec.structs.replace(row, token="")  # perhaps it was what the source choked on
            if row.state == COMPLETE:
                row = msgspec.structs.replace(row, phase=LISTING, passes=1, token="", queued=0)
            if source is not None:
                secrets = msgspec.msgpack.encode(_Secrets(source.secret, source.session_token))
                spec = msgspec.structs.replace(
                    row.source,
                    access_key_id=source.access_key_id,
                    sealed=self._wrapper.wrap(secrets, _SECRET_CONTEXT + job_id),
                )
                row = msgspec.structs.replace(row, source=spec)
            return msgspec.structs.replace(row, state=RUNNING, reason="")

        job = await self.get(job_id)
        resume(job.row)
        await self._mark(job_id, job.row)
        await self.clear(NOTE + job_id, keep=_not_failed)
        return await self.change(job_id, resume)

    async def end(self, job_id: bytes, *, cancel: bool) -> Job:
        """Give the bucket back to itself: no more copies, no reading through. `cancel` also ends one that has not come
        to its end. Raises MigrationRefused."""

        def end(row: JobRow) -> JobRow:
            if row.state in (ENDING, ENDED):
                raise MigrationRefused("the migration has ended")
            if row.state != COMPLETE and not cancel:
                raise MigrationRefused("the migration is not complete; `cancel` ends it as it is")
            return msgspec.structs.replace(row, state=ENDING, reason="cancelled" if row.state != COMPLETE else "")

        job = await self.change(job_id, end)
        await self.unmark(job)
        return job

    async def forget(self, job_id: bytes) -> None:
        """Remove an ended job and its report. Raises MigrationRefused, NoSuchMigration."""
        job = await self.get(job_id)
        if job.row.state != ENDED:
            raise MigrationRefused(f"the migration is {job.row.state}: end or cancel it first")
        await self.clear(NOTE + job_id)
        await self._remove(job_id)

    async def unmark(self, job: Job) -> None:
        """Take the job's mark from its bucket, if both are still there."""

        def unmark(present: Bucket) -> Bucket:
            mark = mark_of(present)
            if present.id != job.row.target_id or mark is None or mark.job_id != job.id:
                return present
            settings = {name: document for name, document in present.settings.items() if name != SETTING}
            return replace(present, settings=settings)

        try:
            await self.store.update_bucket(await self.store.get_bucket(job.row.target), unmark)
        except NoSuchBucket:
            return

    async def clean(self, job_id: bytes) -> None:
        """Remove all that an ending job kept but its report."""
        for kind in (PENDING, ORIGIN, TOMB):
            await self.clear(kind + job_id)

    async def clear(self, prefix: bytes, keep: Callable[[bytes], bool] = lambda _: False) -> None:
        """Remove every row under a prefix but those whose value `keep` wants, in bounded transactions."""
        start = prefix
        while True:

            async def sweep(txn: Transaction, start: bytes = start) -> bytes:
                rows = await txn.scan(start, prefix_end(prefix), limit=_PAGE)
                for key, value in rows:
                    if not keep(value):
                        txn.delete(key)
                return rows[-1][0] + b"\0" if len(rows) == _PAGE else b""

            start = await self.catalog.transact(sweep)
            if not start:
                return

    async def note(self, job_id: bytes, key: str, kind: str, reason: str, etag: bytes = b"") -> None:
        """Keep what there is to tell of a key."""
        row = note_row(kind, key, reason, self._clock.now_us(), etag)

        async def write(txn: Transaction) -> None:
            txn.put(note_key(job_id, raw_key(key)), row)

        await self.catalog.transact(write)

    async def notes(self, job_id: bytes, after: bytes = b"") -> tuple[list[NoteRow], bytes]:
        """A page of what there is to tell, and where the next begins; b"" at the end."""
        prefix = NOTE + job_id

        async def look(reader: Reader) -> tuple[list[NoteRow], bytes]:
            rows = await reader.scan(prefix + after, prefix_end(prefix), limit=_PAGE)
            following = rows[-1][0][len(prefix) :] + b"\0" if len(rows) == _PAGE else b""
            return [NOTE_ROW.decode(value) for _, value in rows], following

        return await self.catalog.read(look)

    def source_of(self, job: Job) -> Source:
        """The source with its secrets. Raises Corrupt."""
        spec = job.row.source
        secrets = _Secrets("", "")
        if spec.sealed:
            try:
                raw = self._wrapper.unwrap(spec.sealed, _SECRET_CONTEXT + job.id)
                secrets = msgspec.msgpack.decode(raw, type=_Secrets)
            except msgspec.MsgspecError as error:
                raise Corrupt("a migration's sealed secrets do not decode") from error
        return Source(
            spec.url,
            spec.bucket,
            spec.region,
            spec.virtual_host,
            spec.access_key_id,
            secrets.secret,
            secrets.session_token,
        )

    async def _mark(self, job_id: bytes, row: JobRow) -> None:
        """Let the bucket know of its job. Raises MigrationRefused."""
        document = Mark(job_id, row.read_through).document()

        def mark(present: Bucket) -> Bucket:
            other = mark_of(present)
            if present.id != row.target_id or (other is not None and other.job_id != job_id):
                raise MigrationRefused(f"another migration into {row.target} is under way; end or cancel it first")
            return replace(present, settings={**present.settings, SETTING: document})

        await self.store.update_bucket(await self._bucket(row.target), mark)

    async def _remove(self, job_id: bytes) -> None:
        async def remove(txn: Transaction) -> None:
            txn.delete(job_key(job_id))

        await self.catalog.transact(remove)

    async def _bucket(self, name: str) -> Bucket:
        try:
            return await self.store.get_bucket(name)
        except NoSuchBucket:
            raise MigrationRefused(
                f"there is no bucket {name} here; make it first, it decides who owns the copies"
            ) from None


async def rewrite_row(txn: Transaction, job_id: bytes, function: Callable[[JobRow], JobRow], now_us: int) -> JobRow:
    """Part of a transaction: change a job's row. Raises NoSuchMigration."""
    raw = await txn.get(job_key(job_id))
    if raw is None:
        raise NoSuchMigration(job_id.hex())
    row = msgspec.structs.replace(function(JOB_ROW.decode(raw)), updated_us=now_us)
    txn.put(job_key(job_id), JOB_ROW.encode(row))
    return row


def raw_key(key: str) -> bytes:
    """A source's key as bytes, also where it was no UTF-8."""
    return key.encode("utf-8", "surrogateescape")


def note_row(kind: str, key: str, reason: str, at_us: int, etag: bytes = b"") -> bytes:
    shown = raw_key(key).decode("utf-8", "backslashreplace")[:4096]
    return NOTE_ROW.encode(NoteRow(kind=kind, key=shown, reason=reason[:500], at_us=at_us, etag=etag))


def _not_failed(value: bytes) -> bool:
    return NOTE_ROW.decode(value).kind != FAILED


def next_phase(row: JobRow) -> JobRow:
    """What comes after a phase: a listing that found nothing ends the job, a copy is followed by another listing."""
    if row.phase == COPYING:
        return msgspec.structs.replace(row, phase=LISTING, passes=row.passes + 1, token="", queued=0)
    if row.queued and row.passes >= MAX_PASSES:
        return msgspec.structs.replace(
            row, state=COMPLETE, token="", reason=f"the source still changed in pass {row.passes}; run `resume` later"
        )
    if row.queued:
        return msgspec.structs.replace(row, phase=COPYING, listed_once=True, token="")
    return msgspec.structs.replace(row, state=COMPLETE, listed_once=True, token="", reason="")
