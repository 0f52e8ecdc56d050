"""Buckets: names, owners, settings, and the cache that every request asks.

Whether a bucket still exists is decided in the transaction that fills it: each one reads the BUCKET row (`live`), which
none of them writes. `delete` reads that row too, and scans the bucket's listing rows *in its transaction*: so whichever
of a filling commit and the deletion is serialized first makes the other run again and see it. This is the only
transaction that reads listing rows; a plain `read` before it turns away a bucket that is obviously in use.

The buckets of an owner with a quota are counted before one more is made, by a plain `read`. The transaction that makes
it also counts up the owner's BUCKETS_MADE row, which tells how many were added since: there are at most so many more
than were counted. Only where these would be too many they are counted again (decision 16).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import msgspec

from catalog.errors import CatalogClosed, CatalogError, FeedTrimmed
from catalog.interface import Catalog, Glance, Reader, Transaction
from catalog.keys import prefix_end, read_terminated, read_u64, u64
from core.clock import Clock
from core.ids import new_id
from engine.errors import BucketExists, BucketNotEmpty, NoSuchBucket, TooManyBuckets
from engine.keyring import Keyring, KeyUnavailable
from engine.layout import (
    BUCKET,
    BUCKET_NAME,
    BUCKET_OWNER,
    ID,
    KIND,
    LIST,
    RECLAIM_BUCKET,
    VERSION_LIST,
    made_key,
    owner_key,
    owner_prefix,
    reclaim_key,
)
from engine.ports import BucketQuota
from engine.records import BUCKET_ROW, BucketRow, bucket_value, versioning_code
from engine.types import Bucket

log = logging.getLogger("atoll.engine")

#: Buckets that the cache holds; beyond it the oldest entry goes.
CACHE_SIZE = 10_000
#: Seconds between looks at the change feed: what another gateway changed shows here within a second.
FOLLOW_INTERVAL = 0.25
_CHANGES = 1000
_PAGE = 10_000


class _Count(NamedTuple):
    """How many buckets an owner had, up to `most`, when it had made so many within a quota."""

    most: int
    buckets: int
    made: int


class Buckets:
    """All that is done to buckets as such."""

    def __init__(self, catalog: Catalog, keyring: Keyring, clock: Clock, quota: BucketQuota | None = None) -> None:
        self._catalog = catalog
        #: Of the catalog, where it offers that.
        self.glance: Glance | None = getattr(catalog, "glance", None)
        self._keyring = keyring
        self._clock = clock
        self._quota = quota
        self._by_name: dict[str, Bucket] = {}
        self._names: dict[bytes, str] = {}  # bucket id -> name, for the cached ones
        self._rows: dict[bytes, tuple[bytes, Bucket]] = {}  # bucket id -> the row as last seen, and its value
        self._forgets = 0  # how often an entry was dropped: a read begun before that must not fill the cache
        self._follower: asyncio.Task[None] | None = None
        #: Whether a bucket's row is looked at each time that it is asked for: see `get`.
        self.looked_at = False
        #: The bucket that last had a name, if it is in memory. Where it is `looked_at` nothing but its id can be relied
        #: on before its row was seen.
        self.cached: Callable[[str], Bucket | None] = self._by_name.get

    async def start(self) -> None:
        """Follow the change feed from now on; needless where no other process can write to the catalog."""
        if self._catalog.exclusive:
            return
        self.looked_at = self._catalog.local
        self._follower = asyncio.create_task(self._follow(await self._catalog.sequence()), name="bucket cache")

    async def close(self) -> None:
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower
            self._follower = None

    async def create(self, name: str, *, owner: str, acl: str, location: str) -> Bucket:
        bucket = Bucket(new_id(), name, owner, self._clock.now_us(), location, acl=acl)
        key = self._keyring.new_bucket_key(bucket.id)
        row = BUCKET_ROW.encode(
            BucketRow(
                name=name,
                owner=owner,
                created_us=bucket.created_us,
                location=location,
                versioning=versioning_code(bucket.versioning),
                acl=acl,
                settings={},
            )
        )
        counted: _Count | None = None

        async def commit(txn: Transaction) -> int | None:
            """None once it is made; else up to how many of the owner's buckets have to be counted before."""
            present = await txn.get(BUCKET_NAME + name.encode())
            if present is not None:
                raise BucketExists((await _load(txn, present)).owner)
            most = None if self._quota is None else await self._quota.most_buckets(txn, owner)
            if most is not None:
                if counted is None or counted.most != most:
                    return most
                made = await _made(txn, owner)
                if counted.buckets >= most and counted.made == made:
                    raise TooManyBuckets(f"the owner has as many buckets as it may own, {most}")
                if counted.buckets + made - counted.made >= most:
                    return most  # some of those may have been deleted
                txn.put(made_key(owner), u64(made + 1))
            txn.put(BUCKET_NAME + name.encode(), bucket.id)
            txn.put(BUCKET + bucket.id, row)
            txn.put(owner_key(owner, name), bucket.id)
            await self._keyring.put_bucket_key(txn, key)
            return None

        while (most := await self._catalog.transact(commit)) is not None:
            counted = await self._count(owner, most)
        return bucket

    async def _count(self, owner: str, most: int) -> _Count:
        start = owner_prefix(owner)

        async def look(reader: Reader) -> _Count:
            made = await _made(reader, owner)
            rows = await reader.scan(start, prefix_end(start), limit=most, keys_only=True)
            return _Count(most, len(rows), made)

        return await self._catalog.read(look)

    async def get(self, name: str) -> Bucket:
        """The bucket of this name, from the cache where it is. Raises NoSuchBucket.

        Where other processes write to a catalog of this machine the row is looked at each time, which costs as good as
        nothing: what one of them changed counts at once in all."""
        cached = self.cached(name)
        if cached is not None and not self.looked_at:
            return cached
        forgets = self._forgets

        async def look(reader: Reader) -> Bucket:
            if cached is not None and (raw := await reader.get(BUCKET + cached.id)) is not None:
                return self.live(cached, raw)
            bucket_id = await reader.get(BUCKET_NAME + name.encode())
            if bucket_id is None:
                raise NoSuchBucket("no such bucket")
            return await _load(reader, bucket_id)

        # Most reads and writes ask for a bucket that is known, and only whether it is still as it was.
        raws = self.glance((BUCKET + cached.id,)) if cached is not None and self.glance is not None else None
        if cached is not None and raws is not None and raws[0] is not None:
            bucket = self.live(cached, raws[0])
        else:
            bucket = await self._catalog.read(look)
        if bucket is not cached and forgets == self._forgets:
            if len(self._by_name) >= CACHE_SIZE:
                self._forget(next(iter(self._names)))
            self._by_name[name] = bucket
            self._names[bucket.id] = name
        return bucket

    def live(self, bucket: Bucket, raw: bytes | None) -> Bucket:
        """The bucket as the committing transaction sees it; `raw` is the row under BUCKET ‖ id, read in that
        transaction. Raises NoSuchBucket when it is gone."""
        if raw is None:
            self._forget(bucket.id)
            raise NoSuchBucket("the bucket was deleted")
        seen = self._rows.get(bucket.id)
        if seen is not None and seen[0] == raw:
            return seen[1]
        current = bucket_value(bucket.id, BUCKET_ROW.decode(raw))
        if len(self._rows) >= CACHE_SIZE:
            del self._rows[next(iter(self._rows))]
        self._rows[bucket.id] = (raw, current)
        return current

    async def wrap(self, bucket: Bucket, manifest: bytes, length: int, content_key: bytes) -> bytes:
        """Wrap a content key for a reference in this bucket. Raises NoSuchBucket: its keys go with it."""
        try:
            return self._keyring.wrap_now(bucket.id, manifest, length, content_key)
        except KeyError:
            pass  # the bucket's key is not in memory
        try:
            return await self._keyring.wrap_content_key(bucket.id, manifest, length, content_key)
        except KeyUnavailable:
            raise NoSuchBucket("the bucket was deleted") from None

    async def update(self, bucket: Bucket, change: Callable[[Bucket], Bucket]) -> Bucket:
        async def commit(txn: Transaction) -> Bucket:
            raw = await txn.get(BUCKET + bucket.id)
            if raw is None:
                raise NoSuchBucket("the bucket was deleted")
            row = BUCKET_ROW.decode(raw)
            old = bucket_value(bucket.id, row)
            new = change(old)
            if replace(new, versioning=old.versioning, acl=old.acl, settings=old.settings) != old:
                raise ValueError("only versioning, acl and settings of a bucket can change")
            changed = msgspec.structs.replace(
                row, versioning=versioning_code(new.versioning), acl=new.acl, settings=new.settings
            )
            txn.put(BUCKET + bucket.id, BUCKET_ROW.encode(changed))
            return new

        try:
            return await self._catalog.transact(commit)
        finally:
            self._forget(bucket.id)

    async def delete(self, bucket: Bucket) -> None:
        async def check(reader: Reader) -> None:
            for kind in (LIST, VERSION_LIST):
                start = kind + bucket.id
                if await reader.scan(start, prefix_end(start), limit=1, keys_only=True):
                    raise BucketNotEmpty("the bucket is not empty")

        async def commit(txn: Transaction) -> None:
            current = await _load(txn, bucket.id)
            await check(txn)
            txn.delete(BUCKET + bucket.id)
            txn.delete(BUCKET_NAME + current.name.encode())
            txn.delete(owner_key(current.owner, current.name))
            await self._keyring.delete_bucket_keys(txn, bucket.id)
            txn.put(reclaim_key(RECLAIM_BUCKET, bucket.id), b"")

        await self._catalog.read(check)
        await self._catalog.transact(commit)
        self._forget(bucket.id)
        self._keyring.forget(bucket.id)

    async def list(self, *, owner: str | None, prefix: str, after: str, limit: int) -> tuple[list[Bucket], str]:
        base = BUCKET_NAME if owner is None else owner_prefix(owner)
        start = max(base + prefix.encode(), base + after.encode() + b"\0" if after else b"")
        end = prefix_end(base + prefix.encode())
        if limit <= 0 or start >= end:
            return [], ""

        async def look(reader: Reader) -> tuple[list[Bucket], bool]:
            rows = await reader.scan(start, end, limit=limit + 1)
            found = await reader.get_many([BUCKET + bucket_id for _, bucket_id in rows[:limit]])
            buckets = [
                bucket_value(bucket_id, BUCKET_ROW.decode(raw))
                for (_, bucket_id), raw in zip(rows, found, strict=False)
                if raw is not None
            ]
            return buckets, len(rows) > limit

        buckets, more = await self._catalog.read(look)
        return buckets, buckets[-1].name if more else ""

    async def count(self) -> Counter[str]:
        async def look(reader: Reader) -> Counter[str]:
            owned: Counter[str] = Counter()
            start, end = BUCKET_OWNER, prefix_end(BUCKET_OWNER)
            while rows := await reader.scan(start, end, limit=_PAGE, keys_only=True):
                owned.update(read_terminated(key, KIND)[0].decode() for key, _ in rows)
                start = rows[-1][0] + b"\0"
            return owned

        return await self._catalog.read(look, long=True)

    def _forget(self, bucket_id: bytes) -> None:
        self._forgets += 1
        self._rows.pop(bucket_id, None)
        name = self._names.pop(bucket_id, None)
        if name is not None:
            self._by_name.pop(name, None)

    def _forget_all(self) -> None:
        self._forgets += 1
        self._rows.clear()
        self._names.clear()
        self._by_name.clear()

    async def _follow(self, sequence: int) -> None:
        """Drop cached buckets that any gateway changed."""
        with contextlib.suppress(CatalogClosed):
            while True:
                try:
                    sequence = await self._advance(sequence)
                except CatalogClosed:
                    raise
                except CatalogError as error:
                    # Nothing cached can be relied on until the feed is heard again, from the same place on.
                    log.warning("the feed of changes is out of reach: %s", error)
                    self._forget_all()
                await asyncio.sleep(FOLLOW_INTERVAL)

    async def _advance(self, sequence: int) -> int:
        """Wait for commits after `sequence` and drop what they changed; the sequence to go on from."""
        newest = await self._catalog.wait_changes(sequence)
        try:
            changes = await self._catalog.changes(sequence, limit=_CHANGES)
        except FeedTrimmed:
            newest = await self._catalog.sequence()  # first: what is cached after this shows it
            self._forget_all()
            return newest
        for change in changes:
            for key in change.under(BUCKET):
                self._forget(key[KIND : KIND + ID])
        if len(changes) == _CHANGES:
            return changes[-1].sequence
        # The feed leaves out commits of leases and epochs, so its last entry may be older than the newest.
        return max(newest, changes[-1].sequence) if changes else newest


async def _made(reader: Reader, owner: str) -> int:
    value = await reader.get(made_key(owner))
    return 0 if value is None else read_u64(value, 0)[0]


async def _load(reader: Reader, bucket_id: bytes) -> Bucket:
    raw = await reader.get(BUCKET + bucket_id)
    if raw is None:
        raise NoSuchBucket("the bucket was deleted")
    return bucket_value(bucket_id, BUCKET_ROW.decode(raw))
