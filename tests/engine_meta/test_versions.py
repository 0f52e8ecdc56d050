"""S3's versioning rules, one by one."""

from __future__ import annotations

import pytest

from engine.errors import IsDeleteMarker, NoSuchKey, NoSuchVersion, PreconditionFailed
from engine.types import Bucket, ObjectAttributes, Versioning, WriteCondition
from tests.engine_meta.world import OWNER, World, versioned


async def _history(world: World, bucket: Bucket) -> list[str]:
    """Versions of all keys, newest first: their text, "-" for a marker, "!" on the null ones, "*" on the latest."""
    found = []
    for item in (await world.store.list_versions(bucket)).versions:
        data = "-" if item.delete_marker else (await world.get(bucket, item.key, item.version_id)).decode()
        found.append(data + "!" * (item.version_id == "null") + "*" * item.is_latest)
    return found


async def _set(world: World, bucket: Bucket, state: Versioning) -> None:
    await world.store.update_bucket(bucket, versioned(state))


async def _delete(world: World, bucket: Bucket, version_id: str = "") -> str:
    return (await world.store.delete_object(bucket, "key", version_id=version_id, owner=OWNER)).version_id


async def test_enabled_keeps_every_version(world: World) -> None:
    bucket = await world.bucket()
    await world.put(bucket, "key", b"0")
    await _set(world, bucket, Versioning.ENABLED)
    one = await world.put(bucket, "key", b"1")
    two = await world.put(bucket, "key", b"2")
    assert await _history(world, bucket) == ["2*", "1", "0!"]
    assert not (await world.store.head_object(bucket, "key", one.version_id)).is_latest
    await _delete(world, bucket, two.version_id)
    assert await _history(world, bucket) == ["1*", "0!"]
    assert await world.get(bucket, "key") == b"1"
    await _delete(world, bucket, "null")
    assert await _history(world, bucket) == ["1*"]
    await world.audit()


async def test_a_delete_marker_hides_and_its_removal_restores(world: World) -> None:
    bucket = await world.bucket()
    await _set(world, bucket, Versioning.ENABLED)
    one = await world.put(bucket, "key", b"1")
    first, second = await _delete(world, bucket), await _delete(world, bucket)
    assert await _history(world, bucket) == ["-*", "-", "1"]
    with pytest.raises(IsDeleteMarker) as caught:
        await world.store.head_object(bucket, "key")
    assert caught.value.info.version_id == second
    assert not (await world.store.list_objects(bucket)).objects
    assert await world.get(bucket, "key", one.version_id) == b"1"
    with pytest.raises(IsDeleteMarker):
        await world.store.open_object(bucket, "key", first)
    with pytest.raises(IsDeleteMarker):
        await world.store.set_tags(bucket, "key", first, [])
    await _delete(world, bucket, first)
    assert await _history(world, bucket) == ["-*", "1"]
    result = await world.store.delete_object(bucket, "key", version_id=second, owner=OWNER)
    assert (result.version_id, result.delete_marker) == (second, True)
    assert await _history(world, bucket) == ["1*"]
    assert [item.key for item in (await world.store.list_objects(bucket)).objects] == ["key"]
    await world.audit()


async def test_suspended_replaces_the_null_version_alone(world: World) -> None:
    bucket = await world.bucket()
    await world.put(bucket, "key", b"0")
    await _set(world, bucket, Versioning.ENABLED)
    await world.put(bucket, "key", b"1")
    await _set(world, bucket, Versioning.SUSPENDED)
    await world.put(bucket, "key", b"2")
    assert await _history(world, bucket) == ["2!*", "1"]
    await world.put(bucket, "key", b"3")
    assert await _history(world, bucket) == ["3!*", "1"]
    assert await _delete(world, bucket) == "null"
    assert await _history(world, bucket) == ["-!*", "1"]
    assert await _delete(world, bucket) == "null"
    assert await _history(world, bucket) == ["-!*", "1"]
    await world.audit()
    await world.put(bucket, "key", b"4")
    assert await _history(world, bucket) == ["4!*", "1"]
    await _set(world, bucket, Versioning.ENABLED)
    await world.put(bucket, "key", b"5")
    await _set(world, bucket, Versioning.SUSPENDED)
    assert await _delete(world, bucket) == "null"
    assert await _history(world, bucket) == ["-!*", "5", "1"]
    await _delete(world, bucket, "null")
    assert await _history(world, bucket) == ["5*", "1"]
    assert await world.alive_bodies() == 2
    await world.audit()


async def test_what_is_not_there_is_no_error_to_delete(world: World) -> None:
    bucket = await world.bucket()
    result = await world.store.delete_object(bucket, "key", owner=OWNER)
    assert (result.version_id, result.delete_marker, result.removed) == ("", False, None)
    for version_id in ("null", "0" * 32):
        result = await world.store.delete_object(bucket, "key", version_id=version_id, owner=OWNER)
        assert (result.version_id, result.delete_marker, result.removed) == (version_id, False, None)
    with pytest.raises(NoSuchVersion):
        await _delete(world, bucket, "rubbish")
    await _set(world, bucket, Versioning.ENABLED)
    made = await world.put(bucket, "key", b"1")
    flipped = made.version_id[:-1] + ("0" if made.version_id[-1] != "0" else "1")
    await _delete(world, bucket, flipped)
    assert await _history(world, bucket) == ["1*"]


async def test_the_token_of_a_null_version_is_no_name_of_it(world: World) -> None:
    bucket = await world.bucket()
    await world.put(bucket, "key", b"1")
    await world.put(bucket, "other", b"2")
    token = (await world.store.list_versions(bucket, limit=1)).next_version_id
    assert token != "null"
    with pytest.raises(NoSuchVersion):
        await world.store.head_object(bucket, "key", token)
    await _delete(world, bucket, token)
    assert await world.get(bucket, "key") == b"1"


async def test_conditions_see_a_marker_as_nothing(world: World) -> None:
    bucket = await world.bucket()
    await _set(world, bucket, Versioning.ENABLED)
    made = await world.put(bucket, "key", b"1")
    await _delete(world, bucket)
    with pytest.raises(NoSuchKey):
        await world.put(bucket, "key", b"2", condition=WriteCondition(etag=made.etag))
    with pytest.raises(PreconditionFailed):
        await world.store.delete_object(bucket, "key", condition=WriteCondition(etag="*"), owner=OWNER)
    await world.put(bucket, "key", b"2", condition=WriteCondition(absent=True))
    assert await _history(world, bucket) == ["2*", "-", "1"]


async def test_an_old_version_is_tagged_and_copied_over_the_latest(world: World) -> None:
    bucket = await world.bucket()
    await _set(world, bucket, Versioning.ENABLED)
    old = await world.put(bucket, "key", b"1")
    await world.put(bucket, "key", b"2")
    await world.store.set_tags(bucket, "key", old.version_id, [("old", "yes")])
    assert (await world.store.head_object(bucket, "key")).attributes.tags == ()
    assert (await world.store.head_object(bucket, "key", old.version_id)).attributes.tags == (("old", "yes"),)
    async with await world.store.open_object(bucket, "key", old.version_id) as source:
        await world.store.copy_object(source, bucket, "key", attributes=ObjectAttributes(owner=OWNER))
    assert await _history(world, bucket) == ["1*", "2", "1"]
    assert await world.alive_bodies() == 2
    await world.audit()
