"""One job at work: list, copy, list again, until a listing finds nothing to do.

The listing finds keys (gateway/migrate/inventory.py), the rows of what is still to come are the queue of the copy. A
key that can't be copied gets a note and is left for the operator; a source that can't be had at all pauses the job.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter

import msgspec

from catalog.errors import LeaseLost
from catalog.interface import Reader, Row, Transaction
from catalog.keys import prefix_end
from core.clock import Clock
from core.errors import AtollError
from engine.errors import EngineError, NoSuchBucket, NoSuchUpload, StorageFull, Unavailable
from engine.records import LIST_ROW, pack_etag, unpack_etag
from engine.types import Bucket
from gateway.migrate.copying import Copier, initiator_of
from gateway.migrate.errors import (
    Kept,
    MigrationError,
    SourceDenied,
    SourceDown,
    SourceError,
    SourceGone,
    SourceRefused,
    SourceWrong,
)
from gateway.migrate.inventory import Inventory
from gateway.migrate.jobs import Job, Jobs, next_phase
from gateway.migrate.layout import (
    COPYING,
    FAILED,
    KEPT,
    LISTING,
    NOTE_ROW,
    PAUSED,
    PENDING,
    RUNNING,
    UNVERIFIED,
    JobRow,
    note_key,
    pending_key,
)
from gateway.migrate.pace import Bandwidth, patiently
from gateway.migrate.source import SourceClient

log = logging.getLogger("atoll.migrate")

_BATCH = 256  # keys read from the queue at once
_FLUSH = 1.0  # seconds between writes of the counts
_KEY_PATIENCE = 30.0  # seconds for one key, while others may come
_STORE_PAUSE = 2.0  # seconds when our own nodes can't take more


class Run:
    """Owns the tasks of one running job until `close`; `done` once there is nothing left to do for now."""

    def __init__(self, jobs: Jobs, job: Job, clock: Clock) -> None:
        self._jobs = jobs
        self._job = job
        row = job.row
        self._client = SourceClient(jobs.source_of(job))
        self._inventory = Inventory(jobs, self._client, clock)
        self._copier = Copier(
            jobs.store,
            self._client,
            job.id,
            streams=row.concurrency,
            bandwidth=Bandwidth(row.bandwidth),
            patience=min(row.patience, _KEY_PATIENCE),
            md5_etags=row.md5_etags,
        )
        self._tallies: Counter[str] = Counter()
        self.task = asyncio.create_task(self._run(), name=f"migration {job.id.hex()}")

    @property
    def done(self) -> bool:
        return self.task.done()

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self._client.close()

    async def _run(self) -> None:
        try:
            bucket = await self._jobs.store.get_bucket(self._job.row.target)
            if bucket.id != self._job.row.target_id:
                raise NoSuchBucket
            await self._abandon_uploads(bucket)
            while self._job.row.state == RUNNING:
                if self._job.row.phase == LISTING:
                    self._job = await self._inventory.step(self._job, bucket)
                else:
                    await self._copy_all(bucket)
        except LeaseLost:
            return  # another gateway goes on
        except NoSuchBucket:
            await self._pause("the target bucket is gone")
        except SourceDenied as error:
            await self._pause(f"the source refuses to list the bucket: {error}")
        except MigrationError as error:
            await self._pause(str(error))
        except AtollError as error:
            log.warning("a migration stops for now: %s", error, extra={"fields": {"migration": self._job.id.hex()}})
            await asyncio.sleep(_STORE_PAUSE)  # the worker starts it again
        except Exception as error:
            log.exception("a migration fails", extra={"fields": {"migration": self._job.id.hex()}})
            await self._pause(f"an error of our own: {type(error).__name__}; see the log")

    async def _pause(self, reason: str) -> None:
        log.warning("a migration pauses: %s", reason, extra={"fields": {"migration": self._job.id.hex()}})

        def pause(row: JobRow) -> JobRow:
            return msgspec.structs.replace(row, state=PAUSED, reason=reason[:500]) if row.state == RUNNING else row

        await self._jobs.change(self._job.id, pause)

    async def _abandon_uploads(self, bucket: Bucket) -> None:
        """Abort what a run that was killed had begun in parts."""
        store, initiator = self._jobs.store, initiator_of(self._job.id)
        key = upload = ""
        while True:
            page = await store.list_uploads(bucket, key_marker=key, upload_marker=upload)
            for one in page.uploads:
                if one.initiator == initiator:
                    try:
                        await store.abort_upload(bucket, one.key, one.upload_id)
                    except NoSuchUpload:
                        continue
            if not page.truncated:
                return
            key, upload = page.next_key, page.next_upload_id

    async def _copy_all(self, bucket: Bucket) -> None:
        """Copy every key of the queue once, then turn to the next phase."""
        queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue(_BATCH)
        workers = [
            asyncio.create_task(self._copy_from(queue, bucket), name="copy keys")
            for _ in range(self._job.row.concurrency)
        ]
        helpers = [asyncio.create_task(self._feed(queue), name="feed"), asyncio.create_task(self._flush_often())]
        feeding = helpers[0]
        try:
            pending = {*workers, *helpers}
            while not feeding.done():
                done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {feeding}:
                    task.result()  # they end by failing alone
            feeding.result()
            empty = asyncio.create_task(queue.join(), name="queue empties")
            helpers.append(empty)
            while not empty.done():
                done, _ = await asyncio.wait({empty, *workers}, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in (*workers, *helpers):
                task.cancel()
            await asyncio.gather(*workers, *helpers, return_exceptions=True)
            with contextlib.suppress(AtollError):
                await self._flush()
        self._job = await self._flush(ended=True)

    async def _feed(self, queue: asyncio.Queue[tuple[str, str]]) -> None:
        """Put every key that is still to come into the queue, but those that failed as they are."""
        prefix = PENDING + self._job.id
        start = prefix

        async def look(reader: Reader) -> tuple[list[Row], list[bytes | None]]:
            rows = await reader.scan(start, prefix_end(prefix), limit=_BATCH)
            return rows, await reader.get_many([note_key(self._job.id, key[len(prefix) :]) for key, _ in rows])

        while True:
            rows, notes = await self._jobs.catalog.read(look)
            for (place, value), note in zip(rows, notes, strict=True):
                etag = LIST_ROW.decode(value).etag
                if note is not None:
                    known = NOTE_ROW.decode(note)
                    if known.kind == FAILED and known.etag == etag:
                        continue
                await queue.put((place[len(prefix) :].decode(), unpack_etag(etag)))
            if len(rows) < _BATCH:
                return
            start = rows[-1][0] + b"\0"

    async def _copy_from(self, queue: asyncio.Queue[tuple[str, str]], bucket: Bucket) -> None:
        while True:
            key, etag = await queue.get()
            await self._copy(bucket, key, etag)
            queue.task_done()

    async def _copy(self, bucket: Bucket, key: str, etag: str) -> None:
        """One key, to one of its ends. Raises what concerns all keys."""
        try:
            copied = await self._copier.copy(bucket, key, etag)
        except Kept as error:
            await self._settle(key, "kept")
            await self._jobs.note(self._job.id, key, KEPT, str(error))
        except SourceGone:
            await self._settle(key, "vanished")
        except SourceRefused:
            raise
        except (SourceDown, SourceDenied) as error:
            # Of this key alone, or of all?
            row = self._job.row
            await patiently(lambda: self._client.probe(row.prefix), row.patience)
            await self._fail(key, etag, error)
        except SourceError as error:
            await self._fail(key, etag, error)
        except (NoSuchBucket, Unavailable, StorageFull):
            raise
        except EngineError as error:
            await self._fail(key, etag, SourceWrong(f"it could not be stored: {error}"))
        else:
            self._tallies["copied"] += 1
            self._tallies["bytes"] += copied.size
            if not copied.verified:
                self._tallies["unverified"] += 1
                reason = "the source gives nothing that tells of the bytes but their number"
                await self._jobs.note(self._job.id, key, UNVERIFIED, reason)

    async def _fail(self, key: str, etag: str, error: SourceError) -> None:
        self._tallies["failed"] += 1
        await self._jobs.note(self._job.id, key, FAILED, str(error), pack_etag(etag))

    async def _settle(self, key: str, tally: str) -> None:
        """Take a key from the queue that needs no copy."""
        self._tallies[tally] += 1

        async def drop(txn: Transaction) -> None:
            txn.delete(pending_key(self._job.id, key.encode()))

        await self._jobs.catalog.transact(drop)

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH)
            await self._flush()

    async def _flush(self, *, ended: bool = False) -> Job:
        """Add to the job's counts what came since, and turn to the next phase when this one has `ended`."""
        new, self._tallies = self._tallies, Counter()

        def add(row: JobRow) -> JobRow:
            tallies = {name: row.tallies.get(name, 0) + new.get(name, 0) for name in {*row.tallies, *new}}
            row = msgspec.structs.replace(row, tallies=tallies)
            return next_phase(row) if ended and row.state == RUNNING and row.phase == COPYING else row

        return await self._jobs.change(self._job.id, add)
