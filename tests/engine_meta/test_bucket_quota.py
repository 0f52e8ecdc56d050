"""How many buckets an owner may own: counted by the transaction that makes one more."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from catalog.interface import Reader
from catalog.memory import MemoryCatalog
from catalog.postgres_engine.catalog import PostgresCatalog
from engine.errors import BucketExists, NoSuchBucket, TooManyBuckets
from engine.store import ObjectStore
from engine.types import Bucket
from tests.engine_meta.world import OWNER, World, catalog_world
from tests.harness.postgres_server import PostgresServer

T = TypeVar("T")


@dataclass
class Quota:
    """Of the owners that it names; every other one may own any number."""

    most: dict[str, int] = field(default_factory=dict)

    async def most_buckets(self, txn: Reader, owner: str) -> int | None:
        return self.most.get(owner)


def store_of(world: World, quota: Quota) -> ObjectStore:
    return ObjectStore(world.catalog, world.bodies, world.keyring, world.clock, quota=quota)


async def names(world: World, owner: str = OWNER) -> list[str]:
    return [bucket.name for bucket in (await world.store.list_buckets(owner=owner))[0]]


async def test_the_quota_is_the_last_bucket_and_a_deletion_makes_room(world: World) -> None:
    quota = Quota({OWNER: 2})
    store = store_of(world, quota)
    first = await store.create_bucket("first", owner=OWNER)
    await store.create_bucket("second", owner=OWNER)
    with pytest.raises(TooManyBuckets):
        await store.create_bucket("third", owner=OWNER)
    await store.create_bucket("of-another", owner="other")
    await store.delete_bucket(first)
    await store.create_bucket("third", owner=OWNER)
    with pytest.raises(TooManyBuckets):
        await store.create_bucket("first", owner=OWNER)
    assert await names(world) == ["second", "third"]
    assert await store.count_buckets() == Counter({OWNER: 2, "other": 1})


async def test_a_lowered_quota_refuses_new_buckets_only(world: World) -> None:
    quota = Quota()
    store = store_of(world, quota)
    made = [await store.create_bucket(f"bucket-{number}", owner=OWNER) for number in range(3)]
    for most in (2, 0):
        quota.most[OWNER] = most
        with pytest.raises(TooManyBuckets):
            await store.create_bucket("one-more", owner=OWNER)
    await world.put(made[0], "key", b"x")
    assert await world.get(made[0], "key") == b"x"
    for bucket in made[1:]:
        await store.delete_bucket(bucket)
    with pytest.raises(TooManyBuckets):
        await store.create_bucket("one-more", owner=OWNER)
    quota.most[OWNER] = 2
    await store.create_bucket("one-more", owner=OWNER)


async def test_a_name_that_exists_is_answered_as_before(world: World) -> None:
    store = store_of(world, Quota({OWNER: 1}))
    await store.create_bucket("mine", owner=OWNER)
    await store.create_bucket("theirs", owner="other")
    for name, owner in (("mine", OWNER), ("theirs", "other")):
        with pytest.raises(BucketExists) as caught:
            await store.create_bucket(name, owner=OWNER)
        assert caught.value.owner == owner


async def test_what_is_refused_leaves_nothing(world: World) -> None:
    store = store_of(world, Quota({OWNER: 0}))
    before = await world.rows(b"")
    with pytest.raises(TooManyBuckets):
        await store.create_bucket("refused", owner=OWNER)
    assert await world.rows(b"") == before
    with pytest.raises(NoSuchBucket):
        await store.get_bucket("refused")
    await store.create_bucket("refused", owner="other")


async def test_owners_whose_ids_begin_alike_are_told_apart(world: World) -> None:
    store = store_of(world, Quota({"one": 1}))
    for number, owner in enumerate(("one\0", "one\0\0", "on", "onee", "")):
        await store.create_bucket(f"bucket-{number}", owner=owner)
    await store.create_bucket("mine", owner="one")
    with pytest.raises(TooManyBuckets):
        await store.create_bucket("mine-too", owner="one")
    assert await store.count_buckets() == Counter({"one\0": 1, "one\0\0": 1, "on": 1, "onee": 1, "": 1, "one": 1})


async def race(stores: list[ObjectStore], count: int, name: str) -> tuple[list[Bucket], list[BaseException]]:
    """So many creations at once, spread over the stores: what was made and what was refused."""
    answers = await asyncio.gather(
        *(stores[number % len(stores)].create_bucket(f"{name}-{number}", owner=OWNER) for number in range(count)),
        return_exceptions=True,
    )
    made = [answer for answer in answers if isinstance(answer, Bucket)]
    return made, [answer for answer in answers if not isinstance(answer, Bucket)]


async def test_of_many_at_once_as_many_are_made_as_there_is_room(world: World) -> None:
    store = store_of(world, Quota({OWNER: 5}))
    for turn in range(3):
        made, refused = await race([store], 16, f"turn-{turn}")
        assert len(made) == 5
        assert {type(one) for one in refused} == {TooManyBuckets}
        assert await names(world) == sorted(bucket.name for bucket in made)
        for bucket in made:
            await store.delete_bucket(bucket)


@pytest.mark.parametrize("seed", range(8))
async def test_creations_and_deletions_in_any_order_keep_to_the_quota(seed: int) -> None:
    chosen = random.Random(seed)

    async def step() -> None:
        for _ in range(chosen.randrange(4)):
            await asyncio.sleep(0)

    async with catalog_world(MemoryCatalog(on_step=step)) as world:
        store = store_of(world, Quota({OWNER: 2}))
        first, _ = await race([store], 2, "first")
        (made, refused), *_ = await asyncio.gather(race([store], 4, "then"), store.delete_bucket(first[0]))
        assert len(made) <= 1
        assert {type(one) for one in refused} == {TooManyBuckets}
        assert len(await names(world)) == 1 + len(made)


async def test_buckets_of_a_time_without_a_quota_count(world: World) -> None:
    for number in range(3):
        await world.store.create_bucket(f"free-{number}", owner=OWNER)
    store = store_of(world, Quota({OWNER: 4}))
    await store.create_bucket("fourth", owner=OWNER)
    await world.store.create_bucket("free-4", owner=OWNER)
    with pytest.raises(TooManyBuckets):
        await store.create_bucket("sixth", owner=OWNER)


class _Meanwhile(MemoryCatalog):
    """Something happens after the next `read` and before its caller goes on: here, between a count and its commit."""

    action: Callable[[], Awaitable[None]] | None = None

    async def read(self, function: Callable[[Reader], Awaitable[T]], *, long: bool = False) -> T:
        result = await super().read(function, long=long)
        action, self.action = self.action, None
        if action is not None:
            await action()
        return result


@pytest.mark.parametrize("deleted", [False, True])
async def test_what_another_makes_between_count_and_commit_takes_the_room_unless_it_makes_room(deleted: bool) -> None:
    catalog = _Meanwhile()
    async with catalog_world(catalog) as world:
        store, other = (store_of(world, Quota({OWNER: 2})) for _ in range(2))
        first = await store.create_bucket("first", owner=OWNER)

        async def meanwhile() -> None:
            await other.create_bucket("of-the-other", owner=OWNER)
            if deleted:
                await other.delete_bucket(first)

        catalog.action = meanwhile
        if deleted:
            await store.create_bucket("last", owner=OWNER)
        else:
            with pytest.raises(TooManyBuckets):
                await store.create_bucket("last", owner=OWNER)
        assert await names(world) == (["last", "of-the-other"] if deleted else ["first", "of-the-other"])


async def test_two_gateways_on_one_database_share_the_last_bucket(postgres: PostgresServer) -> None:
    database = await postgres.new_database()
    try:
        async with catalog_world(await PostgresCatalog.open(postgres.url(database))) as one:
            other = await PostgresCatalog.open(postgres.url(database))
            try:
                quota = Quota({OWNER: 3})
                stores = [
                    store_of(one, quota), ObjectStore(other, one.bodies, one.keyring, one.clock, quota=quota)
                ]  # fmt: skip
                await stores[0].create_bucket("first", owner=OWNER)
                await stores[1].create_bucket("second", owner=OWNER)
                for turn in range(12):
                    made, refused = await race(stores, 2 + turn % 4, f"turn-{turn}")
                    assert len(made) == 1
                    assert {type(one) for one in refused} == {TooManyBuckets}
                    await stores[turn % 2].delete_bucket(made[0])
            finally:
                await other.close()
    finally:
        await postgres.drop_database(database)
