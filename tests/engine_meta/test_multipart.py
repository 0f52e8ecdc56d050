"""Multipart uploads: parts in any order and again, copies into parts, completion, abort, and what is left of them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import pytest

from core.ids import new_id
from engine import layout, manifests, references
from engine.errors import (
    InvalidPart,
    InvalidPartOrder,
    NoSuchKey,
    NoSuchUpload,
    PartTooSmall,
    PreconditionFailed,
)
from engine.layout import part_key, part_referrer, spread
from engine.records import PART_ROW, Extent, PartRow, pack_etag
from engine.types import (
    ChecksumType,
    CompletePart,
    ObjectAttributes,
    Outcome,
    Part,
    WriteCondition,
)
from tests.engine_meta.world import OWNER, World, conclude_parts, outcome_of

PIECES = [os.urandom(size) for size in (70_000, 5_000, 1, 120_000, 3)]


async def test_parts_in_any_order_become_one_object(world: World) -> None:
    bucket = await world.bucket()
    upload_id = await world.upload(bucket, "key")
    numbers = [3, 10_000, 1, 77, 500]
    made = {}
    for number in numbers:
        made[number] = await world.part(bucket, "key", upload_id, number, PIECES[numbers.index(number)])
    ordered = sorted(numbers)
    data = [PIECES[numbers.index(number)] for number in ordered]
    info = await world.complete(bucket, "key", upload_id, [made[number] for number in ordered])
    assert (info.size, info.parts_count) == (sum(map(len, data)), 5)
    assert info.etag == conclude_parts([made[number] for number in ordered]).etag
    assert await world.store.head_object(bucket, "key") == info
    whole = b"".join(data)
    assert await world.get(bucket, "key") == whole
    async with await world.store.open_object(bucket, "key") as opened:
        for offset, length in ((0, 1), (69_999, 5_003), (len(whole) - 4, 4), (100, 150_000)):
            assert b"".join([bytes(v) async for v in opened.read(offset, length)]) == whole[offset : offset + length]
            assert await opened.fetch(offset, length) == whole[offset : offset + length]
        at = 0
        for number, piece in zip(ordered, data, strict=True):
            offset, part = await opened.part(number)
            assert (offset, part.number, part.size, part.etag) == (at, number, len(piece), outcome_of(piece).etag)
            assert part.checksums == outcome_of(piece).checksums
            at += len(piece)
        for missing in (2, 9_999):
            with pytest.raises(InvalidPart):
                await opened.part(missing)
        assert [part.number for part in await opened.parts()] == ordered
        assert [part.number for part in await opened.parts(after=3, limit=2)] == [77, 500]
    await world.reclaim()
    await world.audit()


async def test_a_part_overwritten_by_a_later_commit(world: World) -> None:
    bucket = await world.bucket()
    upload_id = await world.upload(bucket, "key")
    await world.part(bucket, "key", upload_id, 1, b"first attempt")
    again = await world.part(bucket, "key", upload_id, 1, b"second")
    assert await world.alive_bodies() == 1
    with pytest.raises(InvalidPart):
        await world.store.complete_upload(
            bucket, "key", upload_id, [CompletePart(1, outcome_of(b"first attempt").etag)], conclude=conclude_parts
        )
    await world.complete(bucket, "key", upload_id, [again])
    assert await world.get(bucket, "key") == b"second"


async def test_parts_left_out_are_let_go(world: World) -> None:
    bucket = await world.bucket()
    upload_id = await world.upload(bucket, "key")
    parts = [await world.part(bucket, "key", upload_id, n, b"%d" % n) for n in (1, 2, 3)]
    await world.complete(bucket, "key", upload_id, [parts[0], parts[2]])
    assert await world.get(bucket, "key") == b"13"
    await world.reclaim()
    assert await world.alive_bodies() == 3  # two bodies and the manifest
    await world.audit()
    await world.store.delete_object(bucket, "key", owner=OWNER)
    await world.reclaim()
    assert await world.alive_bodies() == 0
    await world.audit()


async def test_what_completion_refuses_leaves_the_upload(world: World) -> None:
    bucket = await world.bucket()
    upload_id = await world.upload(bucket, "key")
    one = await world.part(bucket, "key", upload_id, 1, b"1" * 100)
    two = await world.part(bucket, "key", upload_id, 2, b"2" * 10)

    async def complete(parts: Sequence[CompletePart], minimum_part: int = 100) -> None:
        await world.store.complete_upload(
            bucket, "key", upload_id, parts, conclude=conclude_parts, minimum_part=minimum_part
        )

    first, second = CompletePart(1, one.etag), CompletePart(2, two.etag)
    for wrong in ([], [second, first], [first, first]):
        with pytest.raises(InvalidPartOrder):
            await complete(wrong)
    for wrong_part in (
        CompletePart(3, one.etag),
        CompletePart(2, one.etag),
        CompletePart(2, two.etag, {"SHA256": one.checksums["SHA256"]}),
        CompletePart(2, two.etag, {"CRC32": "AAAAAA=="}),
        CompletePart(2, "rubbish"),
    ):
        with pytest.raises(InvalidPart) as caught:
            await complete([first, wrong_part])
        assert caught.value.number == wrong_part.number
    with pytest.raises(PartTooSmall) as small:
        await complete([first, second], minimum_part=101)
    assert (small.value.number, small.value.size, small.value.minimum) == (1, 100, 101)

    def refuse(_: Sequence[Part]) -> Outcome:
        raise ValueError("checksum differs")

    with pytest.raises(ValueError, match="differs"):
        await world.store.complete_upload(bucket, "key", upload_id, [second], conclude=refuse, minimum_part=1)
    with pytest.raises(NoSuchKey):
        await world.store.head_object(bucket, "key")
    assert [part.number for part in (await world.store.list_parts(bucket, "key", upload_id)).parts] == [1, 2]
    await complete([first, CompletePart(2, two.etag, two.checksums)])
    assert await world.get(bucket, "key") == b"1" * 100 + b"2" * 10


async def test_conditions_hold_for_completion(world: World) -> None:
    bucket = await world.bucket()
    upload_id = await world.upload(bucket, "key")
    part = await world.part(bucket, "key", upload_id, 1, b"1")
    made = await world.put(bucket, "key", b"in the way")
    named = [CompletePart(1, part.etag)]
    with pytest.raises(PreconditionFailed):
        await world.store.complete_upload(
            bucket, "key", upload_id, named, conclude=conclude_parts, condition=WriteCondition(absent=True)
        )
    await world.store.complete_upload(
        bucket, "key", upload_id, named, conclude=conclude_parts, condition=WriteCondition(etag=made.etag)
    )
    assert await world.get(bucket, "key") == b"1"
    await world.reclaim()
    await world.audit()


async def test_the_same_completion_again_gives_the_same_answer_for_a_day(world: World) -> None:
    bucket = await world.bucket()
    upload_id = await world.upload(bucket, "key")
    part = await world.part(bucket, "key", upload_id, 1, b"1")
    info = await world.complete(bucket, "key", upload_id, [part])
    await world.reclaim()
    await world.put(bucket, "key", b"something newer")
    world.clock.advance(23 * 3600)
    await world.reclaim()
    assert await world.complete(bucket, "key", upload_id, [part]) == info
    assert await world.get(bucket, "key") == b"something newer"
    other = Part(2, 1, part.etag)
    with pytest.raises(NoSuchUpload):
        await world.complete(bucket, "key", upload_id, [part, other])
    with pytest.raises(NoSuchUpload):
        await world.part(bucket, "key", upload_id, 2, b"late")
    with pytest.raises(NoSuchUpload):
        await world.store.abort_upload(bucket, "key", upload_id)
    world.clock.advance(3601)
    await world.reclaim()
    with pytest.raises(NoSuchUpload):
        await world.complete(bucket, "key", upload_id, [part])
    assert not await world.rows(layout.UPLOAD)
    await world.audit()


async def test_abort_lets_everything_go_and_is_final(world: World) -> None:
    bucket = await world.bucket()
    upload_id = await world.upload(bucket, "key")
    for number in (1, 2):
        await world.part(bucket, "key", upload_id, number, b"x")
    await world.store.abort_upload(bucket, "key", upload_id)
    for refused in (
        world.store.abort_upload(bucket, "key", upload_id),
        world.part(bucket, "key", upload_id, 3, b"x"),
        world.store.list_parts(bucket, "key", upload_id),
        world.store.get_upload(bucket, "key", upload_id),
    ):
        with pytest.raises(NoSuchUpload):
            await refused
    await world.reclaim()
    assert await world.alive_bodies() == 0
    assert not (await world.store.list_uploads(bucket)).uploads
    await world.audit()


async def test_a_part_under_way_when_the_upload_ends_leaves_nothing(world: World) -> None:
    bucket = await world.bucket()
    upload_id = await world.upload(bucket, "key")

    async def slow() -> AsyncIterator[bytes]:
        yield b"first half"
        await world.store.abort_upload(bucket, "key", upload_id)
        yield b"second half"

    with pytest.raises(NoSuchUpload):
        await world.store.upload_part(bucket, "key", upload_id, 1, slow(), finish=lambda _: outcome_of(b""))
    await world.reclaim()
    assert await world.alive_bodies() == 0
    await world.audit()


async def test_an_upload_belongs_to_its_key_and_bucket(world: World) -> None:
    bucket, other = await world.bucket(), await world.bucket("other")
    upload = await world.store.create_upload(
        bucket,
        "key",
        attributes=ObjectAttributes(owner="cd" * 32, metadata={"a": "b"}),
        initiator="someone",
        checksum_algorithm="SHA256",
        checksum_type=ChecksumType.COMPOSITE,
    )
    assert await world.store.get_upload(bucket, "key", upload.upload_id) == upload
    assert (upload.initiator, upload.checksum_algorithm, upload.checksum_type) == (
        "someone",
        "SHA256",
        ChecksumType.COMPOSITE,
    )
    for wrong_bucket, key, upload_id in (
        (bucket, "other", upload.upload_id),
        (other, "key", upload.upload_id),
        (bucket, "key", "0" * 32),
        (bucket, "key", "../rubbish"),
        (bucket, "key", ""),
    ):
        with pytest.raises(NoSuchUpload):
            await world.store.get_upload(wrong_bucket, key, upload_id)
    part = await world.part(bucket, "key", upload.upload_id, 1, b"1")
    info = await world.complete(bucket, "key", upload.upload_id, [part])
    assert info.attributes == upload.attributes


async def test_parts_are_listed_in_pages(world: World) -> None:
    bucket = await world.bucket()
    upload_id = await world.upload(bucket, "key")
    for number in (10_000, 5, 1, 200):
        await world.part(bucket, "key", upload_id, number, b"%d" % number)
    page = await world.store.list_parts(bucket, "key", upload_id, limit=2)
    assert ([part.number for part in page.parts], page.truncated, page.next_number) == ([1, 5], True, 5)
    page = await world.store.list_parts(bucket, "key", upload_id, after=5)
    assert ([part.number for part in page.parts], page.truncated) == ([200, 10_000], False)
    assert page.upload.upload_id == upload_id
    assert not (await world.store.list_parts(bucket, "key", upload_id, after=10_000)).parts
    assert not (await world.store.list_parts(bucket, "key", upload_id, limit=0)).parts


async def test_an_empty_last_part_and_an_empty_object(world: World) -> None:
    bucket = await world.bucket()
    await world.multipart(bucket, "tail", [b"abc", b""])
    assert await world.get(bucket, "tail") == b"abc"
    info = await world.multipart(bucket, "empty", [b""])
    assert (info.size, info.parts_count) == (0, 1)
    assert await world.get(bucket, "empty") == b""
    await world.reclaim()
    await world.audit()
    for key in ("tail", "empty"):
        await world.store.delete_object(bucket, key, owner=OWNER)
    await world.reclaim()
    assert await world.alive_bodies() == 0


async def test_ten_thousand_parts(world: World) -> None:
    """Prints how long the catalog takes; the parts' rows are planted, their bodies shared with one real one."""
    bucket = await world.bucket()
    await world.put(bucket, "seed", b"0123456789" * 10)
    upload_id = await world.upload(bucket, "key")
    token = bytes.fromhex(upload_id)
    etag = outcome_of(b"").etag
    for start in range(1, 10_001, 1000):

        async def plant(txn: object, start: int = start) -> None:
            for number in range(start, start + 1000):
                body = new_id()
                row = PartRow(
                    size=5 << 20,
                    etag=pack_etag(etag),
                    checksums={"CRC32": "AAAAAA=="},
                    modified_us=1,
                    extents=(Extent(body, 5 << 20, 0, 5 << 20, number),),
                )
                txn.put(part_key(token, number), PART_ROW.encode(row))  # type: ignore[attr-defined]
                references.create(txn, body, part_referrer(spread(token), number))  # type: ignore[arg-type]

        await world.catalog.transact(plant)
    named = [CompletePart(number, etag) for number in range(1, 10_001)]
    started = time.perf_counter()
    info = await world.store.complete_upload(bucket, "key", upload_id, named, conclude=conclude_parts)
    completed = time.perf_counter()
    async with await world.store.open_object(bucket, "key") as source:
        copied = await world.store.copy_object(source, bucket, "copy", attributes=ObjectAttributes())
        at = time.perf_counter()
        offset, part = await source.part(7_777)
        runs = [run async for run in source.runs((7_776 * 5 << 20) - 1, 2)]
        found = time.perf_counter()
    assert (info.size, info.parts_count, copied.size) == (50_000 << 20, 10_000, 50_000 << 20)
    assert (offset, part.number) == (7_776 * 5 << 20, 7_777)
    assert [(run.offset, run.length) for run in runs] == [((5 << 20) - 1, 1), (0, 1)]
    for key in ("key", "copy", "seed"):
        await world.store.delete_object(bucket, key, owner=OWNER)
    deleted = time.perf_counter()
    turns = await world.reclaim()
    reclaimed = time.perf_counter()
    assert await world.alive_bodies() == 0
    await world.audit()
    report = (
        f"\n10,000 parts on {type(world.catalog).__name__}: complete {completed - started:.3f} s, copy "
        f"{at - completed:.4f} s, part and range {found - at:.4f} s, 3 deletes {deleted - found:.4f} s, "
        f"reclaim {reclaimed - deleted:.2f} s in {turns} turns"
    )
    print(report)  # noqa: T201


async def test_a_reader_keeps_the_manifest_that_it_opened(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "CHUNK", 2)  # a reader comes back to the catalog for every second part
    bucket = await world.bucket()
    await world.multipart(bucket, "key", PIECES)
    read = b""
    async with await world.store.open_object(bucket, "key") as opened:
        views = opened.read(0, opened.info.size)
        read += bytes(await anext(views))
        await world.put(bucket, "key", b"new")
        await world.reclaim()
        async with await world.store.open_object(bucket, "key") as later:
            await world.reclaim()
            async for view in views:
                read += bytes(view)
            assert await later.fetch(0, 3) == b"new"
    assert read == b"".join(PIECES)
    await world.reclaim()
    assert await world.alive_bodies() == 1
    await world.audit()


async def test_an_abandoned_read_ends_what_it_began(world: World) -> None:
    bucket = await world.bucket()
    await world.multipart(bucket, "key", PIECES)
    async with await world.store.open_object(bucket, "key") as opened:
        views = opened.read(0, opened.info.size)
        assert len(await anext(views))
        assert isinstance(views, AsyncGenerator)
        await views.aclose()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "read ahead"]
