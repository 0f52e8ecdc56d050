"""Reading through: what a bucket lacks while it is filled is fetched from the source when somebody asks for it.

A key is fetched, stored under the rules of `claims`, and then read like any other; a HEAD, and a GET of what is too
large to wait for, are answered from the source itself. One fetch serves all who wait for it, what the source does not
have is remembered for a few seconds, and both are bounded. Listings are the merge of what is here with the rows of what
is still to come (gateway/migrate/inventory.py); those rows go in the transactions that bring or delete the keys.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass

from catalog.interface import Reader
from engine.records import LIST_ROW, unpack_etag
from engine.store import ObjectStore
from engine.types import Bucket, ListedObject, Listing
from gateway.migrate.copying import Copier
from gateway.migrate.errors import Kept, MigrationError, NotMarked, SourceGone
from gateway.migrate.far import FarObject, unavailable
from gateway.migrate.jobs import Jobs
from gateway.migrate.layout import ENDED, ENDING, PENDING, JobRow, mark_of, pending_key, tomb_key
from gateway.migrate.pace import Bandwidth, patiently
from gateway.migrate.source import SourceClient
from gateway.s3.contract import Readable
from gateway.s3.errors import S3Error

log = logging.getLogger("atoll.migrate")

_ABSENT_SECONDS = 5.0
_ABSENT_KEYS = 10_000
_FETCHES = 64  # under way at once
_STREAMS = 16
#: Bytes above which a reader is not made to wait until an object is here.
_LARGE = 32 << 20
_LARGE_FETCHES = 8  # no more are begun beside a read when this many fetches are under way
_PATIENCE = 5.0  # seconds that a reader waits for a source that is silent
_FRESH = 2.0  # seconds that a job's row is relied on


@dataclass(slots=True)
class _Open:
    """A job's source, in use."""

    row: JobRow
    client: SourceClient
    copier: Copier
    read_at: float


@dataclass(frozen=True, slots=True)
class _Coming:
    """A key that may be at the source; what the listing said of it, if it has come that far."""

    source: _Open
    etag: str = ""
    size: int | None = None


class ReadThrough:
    """See `gateway.s3.contract.Arrivals`. `close` it once no request is under way."""

    def __init__(self, jobs: Jobs, store: ObjectStore) -> None:
        self._jobs = jobs
        self._store = store
        self._open: dict[bytes, _Open] = {}
        self._fetches: dict[tuple[bytes, str], asyncio.Task[bool]] = {}
        self._absent: OrderedDict[tuple[bytes, str], float] = OrderedDict()
        self._stale: list[SourceClient] = []

    async def close(self) -> None:
        tasks = list(self._fetches.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in (*self._stale, *(one.client for one in self._open.values())):
            await client.close()
        self._open.clear()
        self._stale.clear()

    async def bring(self, bucket: Bucket, key: str) -> bool:
        """See `Arrivals.bring`."""
        mark = mark_of(bucket)
        if mark is None or not mark.read_through:
            return False
        place = (bucket.id, key)
        if self._is_absent(place):
            return False
        task = self._fetches.get(place)
        if task is None:
            if len(self._fetches) >= _FETCHES:
                raise S3Error("SlowDown")
            task = self._start(mark.job_id, bucket, key)
        try:
            return await asyncio.shield(task)
        except MigrationError as error:
            log.warning("reading through failed: %s", error, extra={"fields": {"bucket": bucket.name}})
            raise unavailable() from None

    async def look(self, bucket: Bucket, key: str, *, head: bool) -> Readable | None:
        """See `Arrivals.look`. What is read from afar because it is large is fetched beside that."""
        mark = mark_of(bucket)
        if mark is None or not mark.read_through or self._is_absent((bucket.id, key)):
            return None
        try:
            far = await self._look(mark.job_id, bucket, key, head)
        except (MigrationError, S3Error) as error:
            log.warning("reading through failed: %s", error, extra={"fields": {"bucket": bucket.name}})
            raise unavailable() from None
        room = len(self._fetches) < _LARGE_FETCHES
        if far is not None and not head and room and (bucket.id, key) not in self._fetches:
            self._start(mark.job_id, bucket, key)
        return far

    async def _look(self, job_id: bytes, bucket: Bucket, key: str, head: bool) -> FarObject | None:
        coming = await self._coming(job_id, bucket, key)
        if coming is None or (not head and coming.size is not None and coming.size <= _LARGE):
            return None
        client = coming.source.client
        try:
            found = await patiently(lambda: client.head(key), _PATIENCE)
        except SourceGone:
            self._remember_absent((bucket.id, key))
            return None
        if not head and found.size <= _LARGE:
            return None
        attributes = await coming.source.copier.attributes(bucket, key, found)
        return FarObject(client, key, found, attributes, patience=_PATIENCE)

    def _start(self, job_id: bytes, bucket: Bucket, key: str) -> asyncio.Task[bool]:
        """Fetch a key in a task that all who want it share."""
        place = (bucket.id, key)

        def ended(task: asyncio.Task[bool]) -> None:
            self._fetches.pop(place, None)
            if not task.cancelled():
                task.exception()  # whoever waits is told; nobody may

        task = asyncio.create_task(self._fetch(job_id, bucket, key), name="read through")
        self._fetches[place] = task
        task.add_done_callback(ended)
        return task

    async def list_objects(self, bucket: Bucket, *, prefix: str, delimiter: str, after: str, limit: int) -> Listing:
        """The store's page merged with what is still to come."""
        mark = mark_of(bucket)
        coming = Listing((), (), False)
        if mark is not None and mark.read_through:
            # First: a key on its way is then seen in both at worst, never in neither.
            base = PENDING + mark.job_id
            coming = await self._store.list_rows(
                base, bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit
            )
        here = await self._store.list_objects(bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        return merged(here, coming, limit) if coming.objects or coming.prefixes else here

    async def _fetch(self, job_id: bytes, bucket: Bucket, key: str) -> bool:
        """Copy one key now. Raises what the source does; whether it may be here is the result."""
        coming = await self._coming(job_id, bucket, key)
        if coming is None:
            return False
        try:
            await coming.source.copier.copy(bucket, key, coming.etag)
        except SourceGone:
            self._remember_absent((bucket.id, key))
            return False
        except (Kept, NotMarked):
            return True  # somebody was faster, or nothing comes from there any more
        return True

    async def _coming(self, job_id: bytes, bucket: Bucket, key: str) -> _Coming | None:
        """What is known of a key that is not here; None where the source is not to be asked for it."""
        raw = key.encode()

        async def look(reader: Reader) -> list[bytes | None]:
            return await reader.get_many([tomb_key(job_id, bucket.id, raw), pending_key(job_id, raw)])

        tomb, pending = await self._jobs.catalog.read(look)
        if tomb is not None:
            return None
        source = await self._source(job_id)
        if source is None or not key.startswith(source.row.prefix):
            return None
        if pending is None:
            return _Coming(source)
        row = LIST_ROW.decode(pending)
        return _Coming(source, unpack_etag(row.etag), row.size)

    async def _source(self, job_id: bytes) -> _Open | None:
        """The job's source; None for a job that has ended."""
        known, now = self._open.get(job_id), time.monotonic()
        if known is not None and now - known.read_at < _FRESH:
            return known
        try:
            job = await self._jobs.get(job_id)
        except MigrationError:
            return None
        if job.row.state in (ENDING, ENDED):
            return None
        if known is not None and known.row.source == job.row.source:
            known.row, known.read_at = job.row, now
            return known
        if known is not None:
            self._stale.append(known.client)  # other fetches may still use it
        client = SourceClient(self._jobs.source_of(job))
        copier = Copier(
            self._store,
            client,
            job_id,
            streams=_STREAMS,
            bandwidth=Bandwidth(0),
            patience=_PATIENCE,
            md5_etags=job.row.md5_etags,
        )
        self._open[job_id] = _Open(job.row, client, copier, now)
        return self._open[job_id]

    def _is_absent(self, place: tuple[bytes, str]) -> bool:
        until = self._absent.get(place)
        if until is None:
            return False
        if until > time.monotonic():
            return True
        del self._absent[place]
        return False

    def _remember_absent(self, place: tuple[bytes, str]) -> None:
        self._absent[place] = time.monotonic() + _ABSENT_SECONDS
        while len(self._absent) > _ABSENT_KEYS:
            self._absent.popitem(last=False)


def merged(here: Listing, coming: Listing, limit: int) -> Listing:
    """One page of two, each of which has the first `limit` of its own; what is here hides what is to come."""
    entries: dict[bytes, ListedObject | str] = {}
    for page in (coming, here):
        entries.update((one.key.encode(), one) for one in page.objects)
        entries.update((prefix.encode(), prefix) for prefix in page.prefixes)
    order = sorted(entries)
    truncated = here.truncated or coming.truncated or len(order) > limit
    shown = [entries[key] for key in order[:limit]]
    objects = [one for one in shown if isinstance(one, ListedObject)]
    prefixes = [one for one in shown if isinstance(one, str)]
    return Listing(objects, prefixes, truncated, order[:limit][-1].decode() if truncated and shown else "")
