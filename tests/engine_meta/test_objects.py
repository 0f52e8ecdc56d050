"""PUT, HEAD, GET, copy, tags and ACL of single objects."""

from __future__ import annotations

import os

import pytest

from engine.errors import (
    InvalidPart,
    IsDeleteMarker,
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    PreconditionFailed,
)
from engine.open import OpenObject
from engine.types import ObjectAttributes, Outcome, Versioning, WriteCondition
from tests.engine_meta.world import OWNER, World, chunks, outcome_of, versioned

DATA = os.urandom(100_000)


async def test_a_put_comes_back_with_all_that_was_said_of_it(world: World) -> None:
    bucket = await world.bucket()
    attributes = ObjectAttributes(
        owner="cd" * 32,
        acl="public-read",
        storage_class="STANDARD_IA",
        headers={"Content-Type": "text/plain"},
        metadata={"color": "blå"},
        tags=(("a", "1"), ("b", "")),
    )
    made = await world.put(bucket, "ключ/\x01 key", DATA, attributes=attributes)
    info = await world.store.head_object(bucket, "ключ/\x01 key")
    assert info == made
    assert info.attributes == attributes
    assert (info.size, info.etag, info.checksums) == (
        len(DATA),
        outcome_of(DATA).etag,
        outcome_of(DATA).checksums,
    )
    assert (info.version_id, info.is_latest, info.delete_marker, info.parts_count) == ("null", True, False, 0)
    assert abs(info.modified_us - world.clock.now_us()) < 10_000_000
    assert await world.get(bucket, "ключ/\x01 key") == DATA
    (listed,) = (await world.store.list_objects(bucket)).objects
    assert (listed.key, listed.size, listed.etag, listed.owner) == (info.key, info.size, info.etag, "cd" * 32)
    assert (listed.storage_class, listed.checksum_algorithms) == ("STANDARD_IA", ("SHA256",))
    assert listed.modified_us == info.modified_us
    await world.audit()


async def test_an_empty_object_and_an_odd_etag(world: World) -> None:
    bucket = await world.bucket()
    info = await world.store.put_object(
        bucket, "empty", chunks(b""), attributes=ObjectAttributes(), finish=lambda _: Outcome("not-an-md5")
    )
    assert (info.size, info.etag, info.attributes.owner) == (0, "not-an-md5", "")
    assert await world.store.head_object(bucket, "empty") == info
    assert await world.get(bucket, "empty") == b""
    (listed,) = (await world.store.list_objects(bucket)).objects
    assert (listed.etag, listed.owner) == ("not-an-md5", "")


async def test_ranges_and_parts_of_a_single_body(world: World) -> None:
    bucket = await world.bucket()
    await world.put(bucket, "key", DATA)
    async with await world.store.open_object(bucket, "key") as opened:
        assert await opened.fetch(5, 70_000) == DATA[5:70_005]
        assert b"".join([bytes(v) async for v in opened.read(99_999, 1)]) == DATA[-1:]
        offset, part = await opened.part(1)
        assert (offset, part.size, part.etag) == (0, len(DATA), outcome_of(DATA).etag)
        assert await opened.parts() == []
        with pytest.raises(InvalidPart):
            await opened.part(2)
        with pytest.raises(ValueError, match="inside"):
            await opened.fetch(99_999, 2)


async def test_overwriting_lets_the_old_body_go(world: World) -> None:
    bucket = await world.bucket()
    first = await world.put(bucket, "key", b"1" * 5000)
    second = await world.put(bucket, "key", b"2" * 6000)
    assert second.modified_us > first.modified_us
    assert await world.get(bucket, "key") == b"2" * 6000
    assert await world.alive_bodies() == 1
    await world.audit()


async def test_what_is_missing_says_so(world: World) -> None:
    bucket = await world.bucket()
    with pytest.raises(NoSuchKey):
        await world.store.head_object(bucket, "key")
    with pytest.raises(NoSuchKey):
        await world.store.open_object(bucket, "key")
    for version_id in ("null", "0" * 32, "rubbish", "../x"):
        with pytest.raises(NoSuchVersion):
            await world.store.head_object(bucket, "key", version_id)
    await world.store.delete_bucket(bucket)
    with pytest.raises(NoSuchBucket):
        await world.put(bucket, "key", b"x")
    with pytest.raises(NoSuchBucket):
        await world.store.delete_object(bucket, "key", owner=OWNER)
    assert await world.alive_bodies() == 0


async def test_the_latest_version_is_opened_with_its_bucket(world: World) -> None:
    with pytest.raises(NoSuchBucket):
        await world.store.open_latest("bucket", "key")
    bucket = await world.bucket()
    for _ in range(2):  # without and with the bucket in memory
        found, missing = await world.store.open_latest("bucket", "key")
        assert (found, type(missing)) == (bucket, NoSuchKey)
    await world.store.update_bucket(bucket, versioned(Versioning.ENABLED))
    made = await world.put(bucket, "key", DATA)
    found, opened = await world.store.open_latest("bucket", "key")
    assert isinstance(opened, OpenObject)
    assert (found, opened.info) == (await world.store.get_bucket("bucket"), made)
    assert await opened.fetch(7, 1000) == DATA[7:1007]
    for outside in ((-1, 2), (len(DATA), 1), (0, len(DATA) + 1), (0, -1)):
        with pytest.raises(ValueError, match="inside"):
            await opened.fetch(*outside)
    opened.close()
    await world.store.delete_object(bucket, "key", owner=OWNER)
    _, marker = await world.store.open_latest("bucket", "key")
    assert isinstance(marker, IsDeleteMarker)
    assert marker.info.is_latest
    await world.put(bucket, "other", b"")
    await world.audit()
    assert world.bodies.epochs.oldest() == world.catalog.known_sequence, "a pin was left"  # type: ignore[attr-defined]


async def test_a_refused_finish_stores_nothing(world: World) -> None:
    bucket = await world.bucket()

    def refuse(length: int) -> Outcome:
        raise ValueError(f"digest of {length} bytes differs")

    with pytest.raises(ValueError, match="100000"):
        await world.store.put_object(bucket, "key", chunks(DATA), attributes=ObjectAttributes(), finish=refuse)
    assert not (await world.store.list_objects(bucket)).objects
    assert await world.alive_bodies() == 0


async def test_conditions_of_writes(world: World) -> None:
    bucket = await world.bucket()
    absent, present = WriteCondition(absent=True), WriteCondition(etag="*")
    with pytest.raises(NoSuchKey):
        await world.put(bucket, "key", b"1", condition=present)
    first = await world.put(bucket, "key", b"1", condition=absent)
    with pytest.raises(PreconditionFailed) as caught:
        await world.put(bucket, "key", b"2", condition=absent)
    assert caught.value.condition == "If-None-Match"
    with pytest.raises(PreconditionFailed) as caught:
        await world.put(bucket, "key", b"2", condition=WriteCondition(etag=outcome_of(b"2").etag))
    assert caught.value.condition == "If-Match"
    with pytest.raises(PreconditionFailed):
        await world.put(bucket, "key", b"2", condition=WriteCondition(other_than=first.etag))
    await world.put(bucket, "key", b"2", condition=WriteCondition(etag=first.etag))
    await world.put(bucket, "key", b"3", condition=present)
    assert await world.get(bucket, "key") == b"3"
    await world.store.delete_object(bucket, "key", owner=OWNER)
    await world.put(bucket, "key", b"4", condition=absent)
    assert await world.alive_bodies() == 1


async def test_conditions_of_deletes(world: World) -> None:
    bucket = await world.bucket()
    made = await world.put(bucket, "key", b"1234")

    async def delete(key: str, condition: WriteCondition) -> None:
        await world.store.delete_object(bucket, key, condition=condition, owner=OWNER)

    with pytest.raises(NoSuchKey):
        await delete("other", WriteCondition(etag="*"))
    await delete("other", WriteCondition(size=3))
    for refused, name in (
        (WriteCondition(etag="00"), "If-Match"),
        (WriteCondition(size=3), "x-amz-if-match-size"),
        (WriteCondition(modified_us=made.modified_us - 2_000_000), "x-amz-if-match-last-modified-time"),
    ):
        with pytest.raises(PreconditionFailed) as caught:
            await delete("key", refused)
        assert caught.value.condition == name
    whole_second = made.modified_us // 1_000_000 * 1_000_000
    await delete("key", WriteCondition(etag=made.etag, size=4, modified_us=whole_second))
    with pytest.raises(NoSuchKey):
        await world.store.head_object(bucket, "key")


async def test_a_copy_shares_the_body_and_outlives_its_source(world: World) -> None:
    bucket, other = await world.bucket(), await world.bucket("other")
    made = await world.put(bucket, "key", DATA)
    attributes = ObjectAttributes(owner=OWNER, metadata={"is": "copy"})
    async with await world.store.open_object(bucket, "key") as source:
        copied = await world.store.copy_object(source, other, "copy", attributes=attributes)
    assert (copied.etag, copied.checksums, copied.size) == (made.etag, made.checksums, made.size)
    assert copied.attributes == attributes
    assert await world.alive_bodies() == 1
    await world.audit()
    await world.store.delete_object(bucket, "key", owner=OWNER)
    assert await world.get(other, "copy") == DATA
    await world.audit()
    await world.store.delete_object(other, "copy", owner=OWNER)
    assert await world.alive_bodies() == 0


async def test_a_copy_onto_itself_replaces_attributes(world: World) -> None:
    bucket = await world.bucket()
    await world.put(bucket, "key", DATA)
    async with await world.store.open_object(bucket, "key") as source:
        outcome = Outcome(source.info.etag, {"CRC32": "AAAAAA=="})
        await world.store.copy_object(
            source, bucket, "key", attributes=ObjectAttributes(metadata={"new": "1"}), outcome=outcome
        )
    info = await world.store.head_object(bucket, "key")
    assert (info.attributes.metadata, info.checksums) == ({"new": "1"}, {"CRC32": "AAAAAA=="})
    assert await world.get(bucket, "key") == DATA
    await world.audit()


async def test_a_copy_whose_source_is_deleted_meanwhile_takes_the_bytes(world: World) -> None:
    bucket = await world.bucket()
    made = await world.put(bucket, "key", DATA)
    async with await world.store.open_object(bucket, "key") as source:
        await world.store.delete_object(bucket, "key", owner=OWNER)
        copied = await world.store.copy_object(source, bucket, "copy", attributes=ObjectAttributes())
    assert (copied.etag, copied.size) == (made.etag, made.size)
    assert await world.get(bucket, "copy") == DATA
    assert await world.alive_bodies() == 1
    await world.audit()


async def test_tags_and_acl_change_in_place(world: World) -> None:
    bucket = await world.bucket()
    made = await world.put(bucket, "key", DATA)
    tagged = await world.store.set_tags(bucket, "key", "", [("k", "v")])
    assert tagged.attributes.tags == (("k", "v"),)
    assert tagged.modified_us == made.modified_us
    await world.store.set_acl(bucket, "key", "null", "public-read")
    info = await world.store.head_object(bucket, "key")
    assert (info.attributes.tags, info.attributes.acl) == ((("k", "v"),), "public-read")
    assert await world.get(bucket, "key") == DATA
    with pytest.raises(NoSuchKey):
        await world.store.set_tags(bucket, "other", "", [])
    with pytest.raises(NoSuchVersion):
        await world.store.set_tags(bucket, "key", "0" * 32, [])
    await world.audit()


async def test_keys_of_1024_bytes_that_share_1000(world: World) -> None:
    bucket = await world.bucket()
    names = ["я" * 500 + tail for tail in ("", "\0", "\0\0x", "\U0010ffff" * 6, "z" * 24)]
    for name in names:
        await world.put(bucket, name, name.encode())
    listed = [item.key for item in (await world.store.list_objects(bucket)).objects]
    assert listed == sorted(names, key=str.encode)
    for name in names:
        assert await world.get(bucket, name) == name.encode()
    await world.store.update_bucket(bucket, versioned(Versioning.ENABLED))
    for name in names:
        await world.store.delete_object(bucket, name, owner=OWNER)
    page = await world.store.list_versions(bucket)
    assert [item.key for item in page.versions] == sorted(names * 2, key=str.encode)
    with pytest.raises(IsDeleteMarker):
        await world.store.head_object(bucket, names[0])
    await world.audit()
