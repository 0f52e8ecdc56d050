"""Parts made of ranges of other objects, and copies of multipart objects: by reference, and what is left of them."""

from __future__ import annotations

import hashlib
import os

import pytest

from engine import layout_data, uploads
from engine.types import (
    ObjectAttributes,
    Outcome,
)
from tests.engine_meta.world import OWNER, World, outcome_of

PIECES = [os.urandom(size) for size in (70_000, 5_000, 1, 120_000, 3)]


async def test_parts_are_made_of_ranges_of_objects_without_moving_bytes(world: World) -> None:
    bucket, other = await world.bucket(), await world.bucket("other")
    single = os.urandom(90_000)
    await world.put(other, "single", single)
    await world.multipart(other, "many", PIECES)
    many = b"".join(PIECES)
    before = len(await world.rows(layout_data.BODY))
    upload_id = await world.upload(bucket, "key")
    ranges = [("single", single, 10, 50_000), ("many", many, 69_000, 6_100), ("many", many, 0, len(many)),
              ("single", single, 20, 1)]  # fmt: skip
    parts = []
    for number, (name, data, offset, length) in enumerate(ranges, 1):
        async with await world.store.open_object(other, name) as source:
            part = await world.store.upload_part_copy(
                bucket, "key", upload_id, number, source, offset, length,
                outcome=outcome_of(data[offset : offset + length]),
            )  # fmt: skip
        assert part.size == length
        parts.append(part)
    assert len(await world.rows(layout_data.BODY)) == before
    await world.complete(bucket, "key", upload_id, parts)
    expected = b"".join(data[offset : offset + length] for _, data, offset, length in ranges)
    assert await world.get(bucket, "key") == expected
    for key in ("single", "many"):
        await world.store.delete_object(other, key, owner=OWNER)
    await world.reclaim()
    await world.audit()
    assert await world.get(bucket, "key") == expected
    # And a range of the result, whose extents are wrapped already, goes on to another object.
    upload_id = await world.upload(other, "again")
    async with await world.store.open_object(bucket, "key") as source:
        part = await world.store.upload_part_copy(
            other, "again", upload_id, 1, source, 45_000, 60_000, outcome=outcome_of(expected[45_000:105_000])
        )
    await world.complete(other, "again", upload_id, [part])
    assert await world.get(other, "again") == expected[45_000:105_000]
    for where, key in ((bucket, "key"), (other, "again")):
        await world.store.delete_object(where, key, owner=OWNER)
    await world.reclaim()
    assert await world.alive_bodies() == 0


async def test_a_part_copied_again_from_the_same_body_keeps_it(world: World) -> None:
    bucket = await world.bucket()
    await world.put(bucket, "source", b"0123456789" * 1000)
    upload_id = await world.upload(bucket, "key")
    async with await world.store.open_object(bucket, "source") as source:
        for offset in (0, 10):
            part = await world.store.upload_part_copy(
                bucket, "key", upload_id, 1, source, offset, 10, outcome=outcome_of(b"0123456789")
            )
    await world.store.delete_object(bucket, "source", owner=OWNER)
    await world.audit()
    again = await world.part(bucket, "key", upload_id, 1, b"plain")
    assert await world.alive_bodies() == 1
    assert part.etag != again.etag
    await world.audit()


@pytest.mark.parametrize("gone", [True, False])
async def test_ranges_that_cannot_be_shared_are_stored_anew(
    world: World, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    bucket = await world.bucket()
    many = b"".join(PIECES)
    if gone:
        await world.put(bucket, "source", many)
    else:
        await world.multipart(bucket, "source", PIECES)
        monkeypatch.setattr(uploads, "MAX_COPIED_EXTENTS", 2)
    upload_id = await world.upload(bucket, "key")
    before = len(await world.rows(layout_data.BODY))
    async with await world.store.open_object(bucket, "source") as source:
        if gone:
            await world.store.delete_object(bucket, "source", owner=OWNER)
        part = await world.store.upload_part_copy(
            bucket, "key", upload_id, 1, source, 5, len(many) - 10, outcome=outcome_of(many[5:-5])
        )
    assert len(await world.rows(layout_data.BODY)) == before + 1
    await world.complete(bucket, "key", upload_id, [part])
    assert await world.get(bucket, "key") == many[5:-5]
    await world.reclaim()
    await world.audit()


async def test_a_multipart_object_is_copied_with_its_parts(world: World) -> None:
    bucket, other = await world.bucket(), await world.bucket("other")
    made = await world.multipart(bucket, "key", PIECES)
    async with await world.store.open_object(bucket, "key") as source:
        copied = await world.store.copy_object(source, other, "copy", attributes=ObjectAttributes())
        digest = hashlib.md5(b"".join(PIECES)).hexdigest()
        flat = await world.store.copy_object(
            source, other, "flat", attributes=ObjectAttributes(), outcome=Outcome(digest)
        )
    assert (copied.etag, copied.parts_count) == (made.etag, 5)
    assert (flat.etag, flat.parts_count) == (digest, 0)
    await world.store.delete_object(bucket, "key", owner=OWNER)
    await world.reclaim()
    await world.audit()
    for key in ("copy", "flat"):
        assert await world.get(other, key) == b"".join(PIECES)
    async with await world.store.open_object(other, "copy") as opened:
        assert (await opened.part(2))[0] == 70_000
    async with await world.store.open_object(other, "flat") as opened:
        assert (await opened.part(1))[1].size == len(b"".join(PIECES))
        assert await opened.parts() == []
    for key in ("copy", "flat"):
        await world.store.delete_object(other, key, owner=OWNER)
    await world.reclaim()
    assert await world.alive_bodies() == 0
    await world.audit()
