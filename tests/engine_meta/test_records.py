"""Packed values come back, and rows are as lean as they are meant to be."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.errors import NoSuchKey
from engine.layout import HEAD, LIST, RECLAIM
from engine.records import (
    ALGORITHMS,
    HEAD_ROW,
    pack_algorithms,
    pack_checksum_type,
    pack_etag,
    pack_owner,
    unpack_algorithms,
    unpack_checksum_type,
    unpack_etag,
    unpack_owner,
)
from engine.types import ChecksumType, ObjectAttributes, Outcome, Versioning
from engine.versions import TOMBSTONE_US, is_version_id
from tests.engine_meta.world import OWNER, World, chunks, versioned

HEX = st.text("0123456789abcdef", min_size=30, max_size=34)


@given(st.one_of(st.text(), HEX, st.tuples(HEX, st.text()).map("-".join)))
@example("")
@example("ab" * 16)
@example("ab" * 16 + "-10000")
@example("AB" * 16)
@example("ab" * 16 + "x")
def test_etags_come_back(etag: str) -> None:
    assert unpack_etag(pack_etag(etag)) == etag


@given(st.one_of(st.text(), st.text("0123456789abcdef", min_size=62, max_size=66)), st.text())
@example("", "")
@example("", "ab" * 32)
@example("ab" * 32, "ab" * 32)
@example("ab" * 32, "cd" * 32)
def test_owners_come_back(owner: str, bucket_owner: str) -> None:
    assert unpack_owner(pack_owner(owner, bucket_owner), bucket_owner) == owner


@given(st.sets(st.sampled_from(ALGORITHMS)))
def test_checksum_algorithms_come_back(names: set[str]) -> None:
    assert set(unpack_algorithms(pack_algorithms(dict.fromkeys(names, "x")))) == names


def test_checksum_types_come_back() -> None:
    for value in (None, *ChecksumType):
        assert unpack_checksum_type(pack_checksum_type(value)) is value


def test_the_bits_of_algorithms_never_move() -> None:
    assert ALGORITHMS[:10] == (
        "CRC32",
        "CRC32C",
        "CRC64NVME",
        "SHA1",
        "SHA256",
        "SHA512",
        "MD5",
        "XXHASH64",
        "XXHASH3",
        "XXHASH128",
    )


async def test_rows_of_a_small_object_are_lean(world: World) -> None:
    bucket = await world.bucket()
    await world.store.put_object(
        bucket,
        "prefix/object-000001",
        chunks(os.urandom(10_240)),
        attributes=ObjectAttributes(owner=OWNER, headers={"Content-Type": "binary/octet-stream"}),
        finish=lambda _: Outcome("ab" * 16, {"CRC64NVME": "AAAAAAAAAAA="}, ChecksumType.FULL_OBJECT),
    )
    ((head_key, head),) = await world.rows(HEAD)
    ((list_key, listed),) = await world.rows(LIST)
    assert len(list_key) + len(listed) <= 110
    assert len(head_key) + len(head) <= 300


async def test_a_tombstone_keeps_the_order_for_a_while(world: World) -> None:
    bucket = await world.bucket()
    first = await world.put(bucket, "key", b"1")
    world.clock.advance(1)
    await world.store.delete_object(bucket, "key", owner=OWNER)
    world.clock.advance(-60)
    second = await world.put(bucket, "key", b"2")
    assert second.modified_us == first.modified_us + 1
    world.clock.advance(120)
    await world.store.delete_object(bucket, "key", owner=OWNER)
    await world.reclaim()
    ((_, raw),) = await world.rows(HEAD)
    assert HEAD_ROW.decode(raw).order == second.modified_us
    world.clock.advance(TOMBSTONE_US / 1e6)
    await world.reclaim()
    assert not await world.rows(HEAD)
    assert not await world.rows(RECLAIM)
    old = await world.put(bucket, "old", b"1")
    world.clock.advance(TOMBSTONE_US / 1e6 + 1)
    await world.store.delete_object(bucket, "old", version_id=old.version_id, owner=OWNER)
    assert not await world.rows(HEAD)


async def test_a_tombstone_that_came_back_to_life_stays(world: World) -> None:
    bucket = await world.bucket()
    await world.put(bucket, "key", b"1")
    await world.store.delete_object(bucket, "key", owner=OWNER)
    await world.put(bucket, "key", b"2")
    world.clock.advance(TOMBSTONE_US / 1e6 + 1)
    await world.reclaim()
    assert await world.get(bucket, "key") == b"2"
    await world.audit()


async def test_version_ids_are_opaque_safe_and_never_null(world: World) -> None:
    bucket = await world.bucket()
    await world.store.update_bucket(bucket, versioned(Versioning.ENABLED))
    ids = [(await world.put(bucket, "key", b"")).version_id for _ in range(20)]
    assert len(set(ids)) == 20
    for version_id in ids:
        assert is_version_id(version_id)
        assert version_id.isalnum()
    assert is_version_id("null")
    for wrong in ("", "NULL", ids[0].upper() + "A", ids[0][:-1], ids[0] + "0"):
        assert not is_version_id(wrong)


async def test_a_refused_read_gives_its_pin_back(world: World) -> None:
    bucket = await world.bucket()
    sequence = await world.catalog.sequence()
    with pytest.raises(NoSuchKey):
        await world.store.open_object(bucket, "missing")
    await world.put(bucket, "key", b"")
    later = await world.catalog.sequence()
    assert later > sequence
    assert await world.bodies.all_passed(later)
