"""Many tasks on few keys: conditions are exact, and rows agree whatever the interleaving."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from catalog.memory import MemoryCatalog
from engine.errors import (
    InvalidPart,
    IsDeleteMarker,
    NoSuchKey,
    NoSuchUpload,
    PreconditionFailed,
)
from engine.types import (
    UNCONDITIONAL,
    CompletePart,
    DeleteResult,
    ObjectAttributes,
    Versioning,
    WriteCondition,
)
from tests.engine_meta.world import OWNER, World, catalog_world, conclude_parts, lmdb_world, outcome_of, versioned


@asynccontextmanager
async def _racing(kind: str, seed: int, folder: Path) -> AsyncIterator[World]:
    """On the memory catalog every row access yields at random; on LMDB tasks meet in the commit groups."""
    if kind == "lmdb":
        async with lmdb_world(folder / "catalog") as world:
            yield world
        return
    chosen = random.Random(seed)

    async def step() -> None:
        for _ in range(chosen.randrange(3)):
            await asyncio.sleep(0)

    async with catalog_world(MemoryCatalog(on_step=step)) as world:
        yield world


RACES = pytest.mark.parametrize(("kind", "seed"), [("memory", 1), ("memory", 2), ("memory", 3), ("lmdb", 0)])


@RACES
async def test_of_many_creators_one_wins(kind: str, seed: int, tmp_path: Path) -> None:
    async with _racing(kind, seed, tmp_path) as world:
        bucket = await world.bucket()
        for state in (None, Versioning.ENABLED):
            if state is not None:
                await world.store.update_bucket(bucket, versioned(state))
            for key in ("a", "b"):
                before = await world.alive_bodies()
                results = await asyncio.gather(
                    *(
                        world.put(bucket, f"{key}{state}", b"%d" % n, condition=WriteCondition(absent=True))
                        for n in range(20)
                    ),
                    return_exceptions=True,
                )
                kinds = Counter(type(result).__name__ for result in results)
                assert kinds == {"ObjectInfo": 1, "PreconditionFailed": 19}
                winner = next(n for n, result in enumerate(results) if not isinstance(result, BaseException))
                assert await world.get(bucket, f"{key}{state}") == b"%d" % winner
                assert await world.alive_bodies() == before + 1
        await world.audit()


@RACES
async def test_a_counter_by_if_match_loses_no_step(kind: str, seed: int, tmp_path: Path) -> None:
    async with _racing(kind, seed, tmp_path) as world:
        bucket = await world.bucket()
        await world.put(bucket, "count", b"0")

        async def add() -> None:
            while True:
                async with await world.store.open_object(bucket, "count") as opened:
                    value = int(await opened.fetch(0, opened.info.size))
                try:
                    await world.put(
                        bucket, "count", b"%d" % (value + 1), condition=WriteCondition(etag=opened.info.etag)
                    )
                except PreconditionFailed:
                    continue
                return

        await asyncio.gather(*(add() for _ in range(12)))
        assert await world.get(bucket, "count") == b"12"
        assert await world.alive_bodies() == 1


@RACES
async def test_everything_at_once_leaves_exact_rows(kind: str, seed: int, tmp_path: Path) -> None:
    async with _racing(kind, seed, tmp_path) as world:
        chosen = random.Random(seed)
        bucket = await world.bucket()
        keys = ["a", "a/b", "b"]

        async def one(n: int) -> None:
            key, other = chosen.choice(keys), chosen.choice(keys)
            action = chosen.randrange(8)
            if action <= 1:
                await world.put(bucket, key, b"%d" % n)
            elif action == 2:
                await world.store.delete_object(bucket, key, owner=OWNER)
            elif action == 3:
                page = await world.store.list_versions(bucket, prefix=key)
                for item in page.versions[:2]:
                    await world.store.delete_object(bucket, item.key, version_id=item.version_id, owner=OWNER)
            elif action == 4:
                async with await world.store.open_object(bucket, key) as source:
                    await world.store.copy_object(source, bucket, other, attributes=ObjectAttributes())
            elif action == 5:
                await world.multipart(bucket, key, [b"%d" % n, b"tail"])
            elif action == 6:
                await world.store.set_tags(bucket, key, "", [("n", str(n))])
            else:
                state = chosen.choice([Versioning.ENABLED, Versioning.SUSPENDED])
                await world.store.update_bucket(bucket, versioned(state))

        async def tolerant(n: int) -> None:
            with suppress(NoSuchKey, IsDeleteMarker):
                await one(n)

        for _ in range(4):
            await asyncio.gather(*(tolerant(n) for n in range(25)), world.reclaim())
        await world.reclaim()
        await world.audit()
        page = await world.store.list_versions(bucket)
        for item in page.versions:
            if not item.delete_marker:
                assert len(await world.get(bucket, item.key, item.version_id)) == item.size


@RACES
async def test_complete_abort_and_a_late_part_race_exactly(kind: str, seed: int, tmp_path: Path) -> None:
    async with _racing(kind, seed, tmp_path) as world:
        bucket = await world.bucket()
        for turn in range(6):
            key = f"key{turn}"
            upload_id = await world.upload(bucket, key)
            first = await world.part(bucket, key, upload_id, 1, b"first")
            complete = world.store.complete_upload(
                bucket, key, upload_id, [CompletePart(1, first.etag)], conclude=conclude_parts
            )
            completed, aborted, again, extra = await asyncio.gather(
                complete,
                world.store.abort_upload(bucket, key, upload_id),
                world.part(bucket, key, upload_id, 1, b"again"),
                world.part(bucket, key, upload_id, 2, b"extra"),
                return_exceptions=True,
            )
            won = not isinstance(completed, BaseException)
            assert not (won and aborted is None)
            if won:
                assert await world.get(bucket, key) == b"first"
                assert isinstance(again, NoSuchUpload)
            else:
                assert isinstance(completed, NoSuchUpload | InvalidPart)
                with pytest.raises(NoSuchKey):
                    await world.store.head_object(bucket, key)
            assert aborted is None or isinstance(aborted, NoSuchUpload)
            assert not isinstance(extra, BaseException) or isinstance(extra, NoSuchUpload)
        await world.reclaim()
        await world.audit()


async def test_the_same_completion_twice_at_once_makes_one_object(world: World) -> None:
    bucket = await world.bucket()
    await world.store.update_bucket(bucket, versioned(Versioning.ENABLED))
    upload_id = await world.upload(bucket, "key")
    part = await world.part(bucket, "key", upload_id, 1, b"x")
    answers = await asyncio.gather(*(world.complete(bucket, "key", upload_id, [part]) for _ in range(4)))
    assert len({info.version_id for info in answers}) == 1
    assert len((await world.store.list_versions(bucket)).versions) == 1


async def test_many_deletes_share_commits_and_answer_in_order(world: World) -> None:
    bucket = await world.bucket()
    await asyncio.gather(*(world.put(bucket, f"key{n}", b"x") for n in range(300)))
    items = [(f"key{n}", "", UNCONDITIONAL) for n in range(300)]
    items += [
        ("missing", "", UNCONDITIONAL),
        ("key0", "rubbish", UNCONDITIONAL),
        ("key1", "", WriteCondition(etag="00")),
        ("key2", "", UNCONDITIONAL),
    ]
    before = await world.catalog.sequence()
    results = await world.store.delete_objects(bucket, items, owner=OWNER)
    commits = await world.catalog.sequence() - before
    assert all(isinstance(result, DeleteResult) and result.removed for result in results[:300])
    assert [type(result).__name__ for result in results[300:]] == [
        "DeleteResult",
        "NoSuchVersion",
        "NoSuchKey",
        "DeleteResult",
    ]
    if type(world.catalog).__name__ == "LmdbCatalog":
        assert commits < 100
    assert not (await world.store.list_objects(bucket)).objects
    await world.audit()


async def test_a_read_sees_one_version_whole(world: World) -> None:
    bucket = await world.bucket()
    await world.put(bucket, "key", b"0" * 10)
    stop = False

    async def write() -> None:
        for n in range(1, 60):
            if n % 7 == 0:
                await world.store.delete_object(bucket, "key", owner=OWNER)
            await asyncio.sleep(0)
            await world.put(bucket, "key", b"%d" % (n % 10) * (10 + n))
            await asyncio.sleep(0)

    async def read() -> int:
        seen = 0
        while not stop:
            try:
                async with await world.store.open_object(bucket, "key") as opened:
                    await asyncio.sleep(0)
                    data = await opened.fetch(0, opened.info.size)
            except NoSuchKey:
                await asyncio.sleep(0)
                continue
            assert len(set(data)) == 1
            assert len(data) == opened.info.size
            assert outcome_of(data).etag == opened.info.etag
            seen += 1
            await asyncio.sleep(0)
        return seen

    readers = [asyncio.create_task(read()) for _ in range(4)]
    await write()
    stop = True
    assert sum(await asyncio.gather(*readers)) > 0
