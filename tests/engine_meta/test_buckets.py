"""Buckets: names, owners, the cache, and deletion against concurrent creation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from catalog.memory import MemoryCatalog
from engine import buckets
from engine.errors import BucketExists, BucketNotEmpty, NoSuchBucket, NoSuchKey, NoSuchUpload
from engine.open import OpenObject
from engine.types import Versioning
from tests.engine_meta.world import OWNER, World, catalog_world, versioned


async def test_names_are_unique_until_deleted(world: World) -> None:
    first = await world.store.create_bucket("name", owner=OWNER, acl="public-read", location="eu-west-1")
    assert await world.store.get_bucket("name") == first
    with pytest.raises(BucketExists) as caught:
        await world.store.create_bucket("name", owner="other")
    assert caught.value.owner == OWNER
    await world.store.delete_bucket(first)
    with pytest.raises(NoSuchBucket):
        await world.store.get_bucket("name")
    with pytest.raises(NoSuchBucket):
        await world.store.delete_bucket(first)
    second = await world.store.create_bucket("name", owner="other")
    assert second.id != first.id
    assert await world.store.get_bucket("name") == second


async def test_lists_by_owner_and_page(world: World) -> None:
    for name in ("b1", "a1", "a2", "c1"):
        await world.store.create_bucket(name, owner="one")
    await world.store.create_bucket("a3", owner="one\0")
    await world.store.create_bucket("a4", owner="")

    async def names(owner: str | None, **more: object) -> list[str]:
        found, _ = await world.store.list_buckets(owner=owner, **more)  # type: ignore[arg-type]
        return [bucket.name for bucket in found]

    assert await names("one") == ["a1", "a2", "b1", "c1"]
    assert await names(None) == ["a1", "a2", "a3", "a4", "b1", "c1"]
    assert await names("one\0") == ["a3"]
    assert await names("") == ["a4"]
    assert await names("one", prefix="a", after="a1") == ["a2"]
    assert await names("one", prefix="a", after="z") == []
    found, after = await world.store.list_buckets(owner="one", limit=2)
    assert after == "a2"
    found, after = await world.store.list_buckets(owner="one", limit=2, after=after)
    assert ([bucket.name for bucket in found], after) == (["b1", "c1"], "")


async def test_settings_change_and_identity_does_not(world: World) -> None:
    bucket = await world.bucket()
    await world.store.get_bucket("bucket")
    changed = await world.store.update_bucket(
        bucket, lambda old: replace(old, acl="public-read", settings={**old.settings, "cors": b"<x/>"})
    )
    assert await world.store.get_bucket("bucket") == changed
    assert (changed.acl, changed.settings, changed.versioning) == (
        "public-read",
        {"cors": b"<x/>"},
        Versioning.UNVERSIONED,
    )
    with pytest.raises(ValueError, match="can change"):
        await world.store.update_bucket(bucket, lambda old: replace(old, owner="thief"))
    assert (await world.store.get_bucket("bucket")).owner == OWNER


async def test_a_stale_bucket_keeps_to_the_stored_versioning(world: World) -> None:
    stale = await world.bucket()
    await world.store.update_bucket(stale, versioned(Versioning.ENABLED))
    assert (await world.put(stale, "key", b"1")).version_id != "null"
    assert (await world.store.delete_object(stale, "key", owner=OWNER)).delete_marker


async def test_only_an_empty_bucket_is_deleted(world: World) -> None:
    bucket = await world.bucket()
    await world.put(bucket, "key", b"1")
    with pytest.raises(BucketNotEmpty):
        await world.store.delete_bucket(bucket)
    await world.store.update_bucket(bucket, versioned(Versioning.ENABLED))
    marker = await world.store.delete_object(bucket, "key", owner=OWNER)
    await world.store.delete_object(bucket, "key", version_id="null", owner=OWNER)
    with pytest.raises(BucketNotEmpty):  # the marker is still there
        await world.store.delete_bucket(bucket)
    await world.store.delete_object(bucket, "key", version_id=marker.version_id, owner=OWNER)
    await world.store.delete_bucket(bucket)


async def test_uploads_go_with_their_bucket(world: World) -> None:
    bucket = await world.bucket()
    for key in ("a", "b"):
        upload_id = await world.upload(bucket, key)
        await world.part(bucket, key, upload_id, 1, b"x" * 10)
    await world.store.delete_bucket(bucket)
    assert await world.alive_bodies() == 2
    await world.reclaim()
    assert await world.alive_bodies() == 0
    with pytest.raises(NoSuchUpload):
        await world.store.get_upload(bucket, "b", upload_id)
    with pytest.raises(NoSuchBucket):
        await world.upload(bucket, "c")
    await world.audit()


@pytest.mark.parametrize("seed", range(8))
async def test_a_bucket_is_never_deleted_with_an_object_in_it(seed: int) -> None:
    chosen = random.Random(seed)

    async def step() -> None:
        for _ in range(chosen.randrange(4)):
            await asyncio.sleep(0)

    async with catalog_world(MemoryCatalog(on_step=step)) as world:
        bucket = await world.bucket()

        async def create(key: str) -> bool:
            await step()
            try:
                await world.put(bucket, key, b"x")
            except NoSuchBucket:
                return False
            return True

        async def delete() -> bool:
            await step()
            try:
                await world.store.delete_bucket(bucket)
            except (BucketNotEmpty, NoSuchBucket):
                return False
            return True

        results = await asyncio.gather(delete(), create("a"), create("b"), delete())
        deleted = results[0] or results[3]
        assert not (results[0] and results[3])
        assert deleted != (results[1] or results[2])
        listed = [item.key for item in (await world.store.list_objects(bucket)).objects]
        assert listed == [key for key, made in zip("ab", results[1:3], strict=True) if made]
        await world.audit()


class _SharedCatalog(MemoryCatalog):
    """As if other processes could have it open too."""

    exclusive = False


async def test_another_gateways_changes_reach_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "FOLLOW_INTERVAL", 0.01)
    catalog = _SharedCatalog()
    async with catalog_world(catalog) as one:
        other = World(catalog, one.bodies, one.keyring)
        made = await one.bucket()
        assert await one.store.get_bucket("bucket") == made
        changed = await other.store.update_bucket(made, versioned(Versioning.ENABLED))
        await asyncio.sleep(0.1)
        assert await one.store.get_bucket("bucket") == changed
        await other.store.delete_bucket(made)
        await asyncio.sleep(0.1)
        with pytest.raises(NoSuchBucket):
            await one.store.get_bucket("bucket")


class _Glancing(_SharedCatalog):
    """And as if they were of this machine: rows can be had at once, but for every other time."""

    glances = 0

    def glance(self, keys: Sequence[bytes]) -> list[bytes | None] | None:
        self.glances += 1
        store = self._store
        return [store.get(key, store.sequence) for key in keys] if self.glances % 2 else None


async def test_an_object_is_opened_in_the_bucket_that_has_the_name_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process of this machine changed counts at once, without the feed."""
    monkeypatch.setattr(buckets, "FOLLOW_INTERVAL", 1000)
    catalog = _Glancing()
    async with catalog_world(catalog) as one:
        other = World(catalog, one.bodies, one.keyring)
        made = await one.bucket()
        await asyncio.sleep(0.01)  # the follower waits from now on
        for _ in range(2):
            assert (await one.store.open_latest("bucket", "key"))[0] == made
        changed = await other.store.update_bucket(made, versioned(Versioning.ENABLED))
        for _ in range(2):
            assert (await one.store.open_latest("bucket", "key"))[0] == changed
        for content in (b"1", b"2"):
            await other.store.delete_bucket(changed)
            changed = await other.bucket()
            await other.put(changed, "key", content)
            found, opened = await one.store.open_latest("bucket", "key")
            assert found == changed
            assert isinstance(opened, OpenObject)
            assert await opened.fetch(0, 1) == content
            opened.close()
            await other.store.delete_object(changed, "key", owner=OWNER)
        await other.store.delete_bucket(changed)
        for _ in range(2):
            with pytest.raises(NoSuchBucket):
                await one.store.open_latest("bucket", "key")
        assert catalog.glances >= 6
        assert one.bodies.epochs.oldest() == catalog.known_sequence, "a pin was left"  # type: ignore[attr-defined]


async def test_the_cache_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "CACHE_SIZE", 3)
    made = [await world.bucket(f"bucket{i}") for i in range(8)]
    for bucket in made:
        assert await world.store.get_bucket(bucket.name) == bucket
        await world.put(bucket, "key", b"1")
    for bucket in made:
        assert await world.store.get_bucket(bucket.name) == bucket
    with pytest.raises(NoSuchKey):
        await world.store.head_object(made[0], "other")
