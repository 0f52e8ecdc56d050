"""A small body onto an empty key is committed at once: what comes of it is what the usual way gives."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from catalog.epochs import Epochs
from catalog.errors import CatalogFull, CommitUnknown
from catalog.interface import Decide, Transaction
from engine import layout, layout_data
from engine.bodies import StoredBody
from engine.errors import NoSuchBucket, NoSuchKey, PreconditionFailed, StorageFull, Unavailable
from engine.records import HEAD_ROW, LIST_ROW
from engine.types import UNCONDITIONAL, Bucket, ObjectAttributes, ObjectInfo, Versioning, WriteCondition
from tests.engine_meta.world import OWNER, World, lmdb_world, outcome_of, versioned

SMALL = os.urandom(10_240)


class _Watched:
    """Counts how the world's small bodies were committed; `refuse` has all take the usual way."""

    def __init__(self, world: World) -> None:
        self.at_once = self.usual = 0
        self.refuse = False
        known, usual = world.bodies.commit_known, world.bodies.commit

        async def commit_known(body: StoredBody, how: object) -> object:
            if self.refuse:
                return None
            # What it was given is passed on, whatever its type.
            result = await known(body, how)  # type: ignore[arg-type,func-returns-value]
            self.at_once += result is not None
            return result

        async def commit(stored: Sequence[StoredBody], function: Callable[[Transaction], Awaitable[object]]) -> object:
            self.usual += 1
            return await usual(stored, function)

        # Methods of the protocol are put in the place of the store's own.
        world.bodies.commit_known, world.bodies.commit = commit_known, commit  # type: ignore[method-assign,assignment]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with lmdb_world(tmp_path / "catalog") as world:
        yield world


async def put(
    world: World,
    bucket: Bucket,
    key: str,
    data: bytes = SMALL,
    *,
    attributes: ObjectAttributes | None = None,
    condition: WriteCondition = UNCONDITIONAL,
) -> ObjectInfo:
    return await world.store.put_object(
        bucket,
        key,
        data,
        attributes=attributes or ObjectAttributes(owner=OWNER),
        finish=lambda _: outcome_of(data),
        condition=condition,
    )


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 10_240, 65_536])
@pytest.mark.parametrize("state", list(Versioning))
async def test_the_rows_are_those_of_the_usual_way(world: World, size: int, state: Versioning) -> None:
    watched = _Watched(world)
    bucket = await world.bucket()
    if state is not Versioning.UNVERSIONED:
        await world.store.update_bucket(bucket, versioned(state))
        bucket = await world.store.get_bucket("bucket")
    data = os.urandom(size)
    attributes = ObjectAttributes(
        owner="ab" * 32, acl="public-read", headers={"Content-Type": "a/b"}, metadata={"x": "y"}, tags=(("t", "1"),)
    )
    rows = []
    for key, refuse in (("fast/é", False), ("slow/é", True)):
        watched.refuse = refuse
        made = await put(world, bucket, key, data, attributes=attributes)
        assert await world.store.head_object(bucket, key) == made
        assert await world.get(bucket, key) == data
        head = HEAD_ROW.decode(
            dict(await world.rows(layout.HEAD))[layout.HEAD + layout.key_hash(bucket.id, key.encode())]
        )
        listed = LIST_ROW.decode(dict(await world.rows(layout.LIST))[layout.LIST + bucket.id + key.encode()])
        version = head.current
        assert version is not None
        assert head.order == int.from_bytes(version.token[:8], "big") == made.modified_us
        assert head.null_order == (0 if state is Versioning.ENABLED else head.order)
        assert listed.token == version.token
        body = dict(await world.rows(layout_data.BODY))[layout_data.BODY + version.body]
        alive = dict(await world.rows(layout_data.ALIVE))[layout_data.ALIVE + version.body]
        assert alive == version.token
        rows.append(
            (
                version.flags, version.size, version.etag, version.attributes, version.checksums,
                version.checksum_type, version.parts, len(version.wrapped), version.manifest,
                listed.kind, listed.size, listed.etag, listed.owner, listed.algorithms, listed.checksum_type, len(body),
            )
        )  # fmt: skip
    small = size <= 4096  # larger ones wait for a pack here, for this world stages nothing
    assert (watched.at_once, watched.usual) == ((1, 1) if small else (0, 2))
    assert rows[0] == rows[1]
    await world.audit()


async def test_what_the_key_had_goes_the_usual_way(world: World) -> None:
    watched = _Watched(world)
    bucket = await world.bucket()
    await put(world, bucket, "k", b"one")
    await put(world, bucket, "k", b"two")
    assert (watched.at_once, watched.usual) == (1, 1)
    await world.store.delete_object(bucket, "k", owner=OWNER)
    await put(world, bucket, "k", b"three")  # there is a tombstone
    assert (watched.at_once, watched.usual) == (1, 2)
    assert await world.get(bucket, "k") == b"three"
    assert await world.alive_bodies() == 1
    await world.audit()


async def test_conditions(world: World) -> None:
    watched = _Watched(world)
    bucket = await world.bucket()
    with pytest.raises(NoSuchKey):
        await put(world, bucket, "k", b"x", condition=WriteCondition(etag="*"))
    await put(world, bucket, "k", b"x", condition=WriteCondition(absent=True))
    assert watched.at_once == 1
    with pytest.raises(PreconditionFailed):
        await put(world, bucket, "k", b"y", condition=WriteCondition(absent=True))
    assert await world.get(bucket, "k") == b"x"
    assert await world.alive_bodies() == 1


async def test_a_bucket_that_is_gone(world: World) -> None:
    bucket = await world.bucket()
    await put(world, bucket, "k", b"x")
    await world.store.delete_object(bucket, "k", owner=OWNER)
    await world.store.delete_bucket(bucket)
    with pytest.raises(NoSuchBucket):
        await put(world, bucket, "k", b"x")
    assert await world.alive_bodies() == 0


async def test_an_epoch_that_was_declared_dead_commits_nothing(world: World) -> None:
    bucket = await world.bucket()
    await put(world, bucket, "k", b"x")
    # The protocol of bodies does not show them; the store has them.
    epochs: Epochs = world.bodies.epochs  # type: ignore[attr-defined]
    await epochs.mark_dead(epochs.epoch)
    with pytest.raises(Unavailable):
        await put(world, bucket, "l", b"x")
    assert await world.alive_bodies() == 1


class _Observer:
    def __init__(self) -> None:
        self.heeded: list[str] = []
        self.seen: list[str] = []

    def heeds(self, bucket: Bucket) -> bool:
        self.heeded.append(bucket.name)
        return bucket.name == "watched"

    async def committed(self, txn: Transaction, bucket: Bucket, new: ObjectInfo, replaced: ObjectInfo | None) -> None:
        self.seen.append(new.key)

    async def copied(
        self, txn: Transaction, bucket: Bucket, new: ObjectInfo, source: ObjectInfo, replaced: ObjectInfo | None
    ) -> None:
        raise AssertionError

    async def removed(self, txn: Transaction, bucket: Bucket, old: ObjectInfo) -> None:
        raise AssertionError


async def test_observers_are_asked_and_those_that_heed_are_called(tmp_path: Path) -> None:
    observer = _Observer()
    async with lmdb_world(tmp_path / "catalog", [observer]) as world:
        watched = _Watched(world)
        await put(world, await world.bucket("other"), "a", b"x")
        assert (observer.seen, watched.at_once) == ([], 1)
        await put(world, await world.bucket("watched"), "b", b"x")
        assert (observer.seen, watched.at_once) == (["b"], 1)
        assert observer.heeded == ["other", "watched"]


async def test_a_commit_in_doubt_is_looked_for(world: World) -> None:
    bucket = await world.bucket()
    await put(world, bucket, "warm", b"x")
    # Only embedded catalogs have the one, and only the store's fast path is an object's method.
    real = world.catalog.transact_known  # type: ignore[attr-defined]
    known = world.bodies.commit_known.__self__  # type: ignore[attr-defined]

    async def unsure(keys: Sequence[bytes], decide: Decide) -> bool:
        await real(keys, decide)
        raise CommitUnknown("the connection broke")

    async def lost(keys: Sequence[bytes], decide: Decide) -> bool:
        raise CommitUnknown("the connection broke")

    async def full(keys: Sequence[bytes], decide: Decide) -> bool:
        raise CatalogFull("no space")

    known._transact = unsure
    made = await put(world, bucket, "k", b"x")
    assert await world.store.head_object(bucket, "k") == made
    known._transact = lost
    with pytest.raises(CommitUnknown):
        await put(world, bucket, "l", b"x")
    known._transact = full
    with pytest.raises(StorageFull):
        await put(world, bucket, "m", b"x")
    assert await world.alive_bodies() == 2
    await world.audit()
