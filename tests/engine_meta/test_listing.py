"""Listings against their definition, exhaustively over small alphabets, and their cost."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable

import pytest

from catalog.interface import Catalog, Reader, Row
from engine import layout
from engine.errors import NoSuchVersion
from engine.records import LIST_ROW, ListRow
from engine.types import Bucket, Versioning
from tests.engine_meta.model import group
from tests.engine_meta.world import OWNER, World, memory_world, versioned

ALPHABET = ["", "a", "b", "/", "a/", "/a", "ab", "a/b", "é", "\0", "//"]
BEHIND_ALL = 1 << 60


async def _fill(world: World, bucket: Bucket, keys: list[str]) -> None:
    for key in keys:
        await world.put(bucket, key)


@pytest.mark.parametrize("seed", range(4))
async def test_objects_by_definition(world: World, seed: int) -> None:
    chosen = random.Random(seed)
    keys = sorted({a + b for a, b in itertools.product(ALPHABET, ALPHABET)} - {""})
    keys = sorted(chosen.sample(keys, 30), key=str.encode)
    bucket = await world.bucket()
    await _fill(world, bucket, keys)
    other = await world.bucket("other")
    await _fill(world, other, ["a", "zz"])
    pairs = [(key, 0) for key in keys]
    for prefix, delimiter in itertools.product(["", "a", "a/", "/", "é", "zz", "\0"], ["", "/", "b", "//", "/a"]):
        for after in ["", *chosen.sample(keys, 4), "a/", "a", "zzz", "/\U0010ffff"]:
            for limit in (0, 1, 2, 1000):
                page = await world.store.list_objects(
                    bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit
                )
                rank = BEHIND_ALL if after else -1
                objects, prefixes, more = group(pairs, prefix, delimiter, (after, rank), limit)
                # By definition a marker inside a common prefix is greater than the prefix itself and skips it.
                assert [item.key for item in page.objects] == [key for key, _ in objects], (prefix, delimiter, after)
                assert list(page.prefixes) == prefixes, (prefix, delimiter, after, limit)
                assert page.truncated == more, (prefix, delimiter, after, limit)


@pytest.mark.parametrize("delimiter", ["", "/", "b"])
async def test_pages_add_up(world: World, delimiter: str) -> None:
    keys = sorted({a + b + c for a, b, c in itertools.product(ALPHABET[1:6], ALPHABET, ALPHABET[1:4])}, key=str.encode)
    bucket = await world.bucket()
    await _fill(world, bucket, keys)
    whole = await world.store.list_objects(bucket, delimiter=delimiter)
    for limit in (1, 2, 7):
        objects: list[str] = []
        prefixes: list[str] = []
        after, more = "", True
        while more:
            page = await world.store.list_objects(bucket, delimiter=delimiter, after=after, limit=limit)
            assert len(page.objects) + len(page.prefixes) == limit or not page.truncated
            objects += [item.key for item in page.objects]
            prefixes += page.prefixes
            after, more = page.next_key, page.truncated
        assert objects == [item.key for item in whole.objects]
        assert prefixes == list(whole.prefixes)


async def test_versions_by_definition(world: World) -> None:
    chosen = random.Random(5)
    bucket = await world.bucket()
    keys = ["a", "a/", "a/b", "a/c", "b", "b/\0", "é/x"]
    for state in (Versioning.UNVERSIONED, Versioning.ENABLED, Versioning.SUSPENDED, Versioning.ENABLED):
        if state is not Versioning.UNVERSIONED:
            await world.store.update_bucket(bucket, versioned(state))
        for _ in range(12):
            key = chosen.choice(keys)
            if chosen.random() < 0.3:
                await world.store.delete_object(bucket, key, owner=OWNER)
            else:
                await world.put(bucket, key)
    full = await world.store.list_versions(bucket)
    assert len(full.versions) > 20
    ranks: dict[str, int] = {}
    pairs, tokens = [], {}
    for item in full.versions:
        rank = ranks[item.key] = ranks.get(item.key, -1) + 1
        assert item.is_latest == (rank == 0)
        pairs.append((item.key, rank))
        tokens[item.key, rank] = item.version_id
    by_pair = dict(zip(pairs, full.versions, strict=True))
    markers: list[tuple[str, int]] = [("", -1), ("a/", BEHIND_ALL), ("zz", BEHIND_ALL), ("a", BEHIND_ALL), *pairs]
    for prefix, delimiter, (key, rank) in itertools.product(["", "a", "a/", "b"], ["", "/"], markers):
        for limit in (1, 3, 1000):
            page = await world.store.list_versions(
                bucket,
                prefix=prefix,
                delimiter=delimiter,
                key_marker=key,
                version_marker=tokens.get((key, rank), ""),
                limit=limit,
            )
            # A marker inside a common prefix: behind all of it.
            at = key.find(delimiter, len(prefix)) if delimiter and key.startswith(prefix) else -1
            effective = rank if at < 0 else BEHIND_ALL
            versions, prefixes, more = group(pairs, prefix, delimiter, (key, effective), limit)
            assert list(page.versions) == [by_pair[pair] for pair in versions], (prefix, delimiter, key, rank, limit)
            assert list(page.prefixes) == prefixes
            assert page.truncated == more


async def test_a_version_marker_survives_the_removal_of_its_version(world: World) -> None:
    bucket = await world.bucket()
    await world.store.update_bucket(bucket, versioned(Versioning.ENABLED))
    made = [await world.put(bucket, "key", b"%d" % i) for i in range(5)]
    await world.store.update_bucket(bucket, versioned(Versioning.SUSPENDED))
    await world.put(bucket, "key", b"null")
    first = await world.store.list_versions(bucket, limit=1)
    assert first.versions[0].version_id == "null"
    await world.put(bucket, "key", b"null again")
    rest = await world.store.list_versions(bucket, key_marker="key", version_marker=first.next_version_id)
    assert [item.version_id for item in rest.versions] == [info.version_id for info in reversed(made)]
    assert not any(item.is_latest for item in rest.versions)
    rest = await world.store.list_versions(bucket, key_marker="key", version_marker="null")
    assert [item.version_id for item in rest.versions] == [info.version_id for info in reversed(made)]
    with pytest.raises(NoSuchVersion):
        await world.store.list_versions(bucket, key_marker="key", version_marker="rubbish")


async def test_uploads_by_definition(world: World) -> None:
    bucket = await world.bucket()
    made: list[tuple[str, str]] = []
    for key in ["a", "a/b", "a/c", "b", "a", "a/b", "é/", "a"]:
        world.clock.advance(1)
        made.append((key, await world.upload(bucket, key)))
    ordered = sorted(made, key=lambda pair: (pair[0].encode(), pair[1]))
    ranks: dict[str, int] = {}
    pairs = []
    for key, _ in ordered:
        ranks[key] = ranks.get(key, -1) + 1
        pairs.append((key, ranks[key]))
    ids = dict(zip(pairs, (upload_id for _, upload_id in ordered), strict=True))
    markers: list[tuple[str, int]] = [("", -1), ("a/", BEHIND_ALL), ("a", BEHIND_ALL), *pairs]
    for prefix, delimiter, (key, rank) in itertools.product(["", "a", "a/"], ["", "/"], markers):
        for limit in (0, 1, 3, 1000):
            page = await world.store.list_uploads(
                bucket,
                prefix=prefix,
                delimiter=delimiter,
                key_marker=key,
                upload_marker=ids.get((key, rank), ""),
                limit=limit,
            )
            at = key.find(delimiter, len(prefix)) if delimiter and key.startswith(prefix) else -1
            effective = rank if at < 0 else BEHIND_ALL
            uploads, prefixes, more = group(pairs, prefix, delimiter, (key, effective), limit)
            assert [(item.key, item.upload_id) for item in page.uploads] == [(k, ids[k, r]) for k, r in uploads]
            assert list(page.prefixes) == prefixes
            assert page.truncated == more


class _CountingReader:
    """Counts the rows that pass."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.scans = self.rows = 0

    async def scan(
        self, start: bytes, end: bytes, *, limit: int, reverse: bool = False, keys_only: bool = False
    ) -> list[Row]:
        found = await self._reader.scan(start, end, limit=limit, reverse=reverse, keys_only=keys_only)
        self.scans += 1
        self.rows += len(found)
        return found


async def _plant(catalog: Catalog, bucket: Bucket, keys: list[str]) -> None:
    """Listing rows without objects: enough for a listing."""
    row = LIST_ROW.encode(
        ListRow(
            token=bytes(16), kind=0, size=1, etag=bytes(16), owner=b"", storage_class="", algorithms=1, checksum_type=1
        )
    )
    for start in range(0, len(keys), 10_000):

        async def put(txn: object, start: int = start) -> None:
            for key in keys[start : start + 10_000]:
                txn.put(layout.LIST + bucket.id + key.encode(), row)  # type: ignore[attr-defined]

        await catalog.transact(put)


async def test_a_subtree_costs_a_seek_whatever_it_holds() -> None:
    async with memory_world() as world:
        bucket = await world.bucket()
        await _plant(world.catalog, bucket, [f"{tree}/{n:05}" for tree in "abc" for n in range(20_000)] + ["d"])
        counted: list[_CountingReader] = []

        async def counting(function: Callable[[Reader], Awaitable[object]], *, long: bool = False) -> object:
            async def call(reader: Reader) -> object:
                counted.append(_CountingReader(reader))
                return await function(counted[-1])  # type: ignore[arg-type]

            return await real(call)

        real = world.catalog.read
        world.catalog.read = counting  # type: ignore[method-assign, assignment]
        page = await world.store.list_objects(bucket, delimiter="/")
        assert (list(page.prefixes), [item.key for item in page.objects]) == (["a/", "b/", "c/"], ["d"])
        (reader,) = counted
        assert reader.scans <= 4
        assert reader.rows <= 4 * 64
