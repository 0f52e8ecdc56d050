"""What operators ask of migrations, answered in plain values without secrets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.admin.migrations import NewKeys, NewMigration
from gateway.migrate.errors import MigrationError, MigrationRefused, NoSuchMigration
from gateway.migrate.jobs import BY_OPERATOR, Job, Jobs, Plan
from gateway.migrate.layout import FAILED, ID, KEPT, UNVERIFIED
from gateway.migrate.pace import patiently
from gateway.migrate.source import Source, SourceClient, check_source

_PROBE_PATIENCE = 5.0


class MigrationOperations:
    """Implements `gateway.admin.migrations.Migrations`. `wake` lets the worker look at once."""

    def __init__(self, jobs: Jobs, wake: Callable[[], None]) -> None:
        self._jobs = jobs
        self._wake = wake

    async def begin(self, new: NewMigration) -> dict[str, Any]:
        """Begin a migration, once its source has answered."""
        source = Source(
            new.endpoint,
            new.source_bucket,
            new.region,
            new.virtual_host,
            new.access_key_id,
            new.secret_access_key,
            new.session_token,
        )
        await _try(source, new.prefix)
        plan = Plan(
            source,
            new.target_bucket,
            prefix=new.prefix,
            concurrency=new.concurrency,
            bandwidth=new.bandwidth,
            patience=new.patience,
            read_through=new.read_through,
            md5_etags=new.md5_etags,
        )
        job = await self._jobs.begin(plan)
        self._wake()
        return describe(job)

    async def all(self) -> list[dict[str, Any]]:
        return [describe(job) for job in await self._jobs.all()]

    async def status(self, job_id: str) -> dict[str, Any]:
        job = await self._jobs.get(parse_id(job_id))
        kinds: Counter[str] = Counter()
        after = b""
        while True:
            notes, after = await self._jobs.notes(job.id, after)
            kinds.update(note.kind for note in notes)
            if not after:
                break
        return {**describe(job), "notes": {kind: kinds[kind] for kind in (FAILED, KEPT, UNVERIFIED)}}

    async def report(self, job_id: str, after: str) -> dict[str, Any]:
        """A page of the keys that there is something to tell of; `after` is the `next` of the page before."""
        try:
            start = bytes.fromhex(after)
        except ValueError:
            raise MigrationRefused("`after` is not from a page") from None
        notes, following = await self._jobs.notes(parse_id(job_id), start)
        keys = [{"kind": note.kind, "key": note.key, "reason": note.reason, "at_us": note.at_us} for note in notes]
        return {"keys": keys, "next": following.hex()}

    async def pause(self, job_id: str) -> dict[str, Any]:
        job = await self._jobs.pause(parse_id(job_id), BY_OPERATOR)
        self._wake()
        return describe(job)

    async def resume(self, job_id: str, keys: NewKeys) -> dict[str, Any]:
        job = await self._jobs.get(parse_id(job_id))
        source = self._jobs.source_of(job)
        given = bool(keys.access_key_id or keys.secret_access_key)
        if given:
            source = Source(
                source.url,
                source.bucket,
                source.region,
                source.virtual_host,
                keys.access_key_id,
                keys.secret_access_key,
                keys.session_token,
            )
            check_source(source)
        job = await self._jobs.resume(job.id, source if given else None)
        self._wake()
        return describe(job)

    async def end(self, job_id: str, *, cancel: bool) -> dict[str, Any]:
        job = await self._jobs.end(parse_id(job_id), cancel=cancel)
        self._wake()
        return describe(job)

    async def forget(self, job_id: str) -> None:
        await self._jobs.forget(parse_id(job_id))


async def _try(source: Source, prefix: str) -> None:
    """Raises MigrationRefused when the source can't be listed."""
    client = SourceClient(source)
    try:
        await patiently(lambda: client.probe(prefix), _PROBE_PATIENCE)
    except MigrationError as error:
        raise MigrationRefused(f"the source can't be listed: {error}") from error
    finally:
        await client.close()


def parse_id(text: str) -> bytes:
    """Raises NoSuchMigration for what can't be one."""
    try:
        job_id = bytes.fromhex(text)
    except ValueError:
        job_id = b""
    if len(job_id) != ID:
        raise NoSuchMigration(text[:40])
    return job_id


def describe(job: Job) -> dict[str, Any]:
    """A job for people and scripts."""
    row = job.row
    return {
        "id": job.id.hex(),
        "state": row.state,
        "reason": row.reason,
        "phase": row.phase,
        "pass": row.passes,
        "listed_once": row.listed_once,
        "endpoint": row.source.url,
        "source_bucket": row.source.bucket,
        "access_key_id": row.source.access_key_id,
        "target_bucket": row.target,
        "prefix": row.prefix,
        "read_through": row.read_through,
        "concurrency": row.concurrency,
        "bandwidth": row.bandwidth,
        "created_us": row.created_us,
        "updated_us": row.updated_us,
        "tallies": msgspec.to_builtins(row.tallies),
    }
