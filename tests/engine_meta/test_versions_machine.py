"""Random histories of one bucket against the naive model, on both catalogs: every answer and every listing."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.errors import IsDeleteMarker, NoSuchKey, NoSuchVersion, PreconditionFailed
from engine.types import ListedObject, ObjectAttributes, Versioning, WriteCondition
from tests.engine_meta.model import Entry, Model, shown
from tests.engine_meta.world import OWNER, World, lmdb_world, memory_world, versioned

T = TypeVar("T")

NAMES = ["a", "a\0", "ё"]
KEYS = st.sampled_from(NAMES)
DATA = st.binary(max_size=3)
PICK = st.integers(0, 9)


class VersionsMachine(RuleBasedStateMachine):
    """One bucket; each rule does one operation and the invariant compares everything."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.opened = self.open()
        self.world = self.run(self.opened.__aenter__)
        self.bucket = self.run(self.world.bucket)
        self.model = Model()

    def open(self) -> AbstractAsyncContextManager[World]:
        return memory_world()

    def run(self, function: Callable[[], Awaitable[T]]) -> T:
        async def call() -> T:
            return await function()

        return self.runner.run(call())

    def teardown(self) -> None:
        try:
            self.run(self.world.reclaim)
            self.run(self.world.audit)
        finally:
            self.run(lambda: self.opened.__aexit__(None, None, None))
            self.runner.close()

    @rule(state=st.sampled_from([Versioning.ENABLED, Versioning.SUSPENDED]))
    def configure(self, state: Versioning) -> None:
        # The bucket that operations are given stays stale on purpose: the stored state must count.
        self.run(lambda: self.world.store.update_bucket(self.bucket, versioned(state)))
        self.model.versioning = state

    @rule(key=KEYS, data=DATA)
    def put(self, key: str, data: bytes) -> None:
        info = self.run(lambda: self.world.put(self.bucket, key, data))
        assert info.is_latest
        self.model.add(key, Entry(info.version_id, data))

    @rule(key=KEYS, data=DATA)
    def put_if_absent(self, key: str, data: bytes) -> None:
        latest = self.model.latest(key)
        condition = WriteCondition(absent=True)
        if latest is not None and latest.data is not None:
            with pytest.raises(PreconditionFailed):
                self.run(lambda: self.world.put(self.bucket, key, data, condition=condition))
        else:
            info = self.run(lambda: self.world.put(self.bucket, key, data, condition=condition))
            self.model.add(key, Entry(info.version_id, data))

    @rule(key=KEYS, data=DATA)
    def multipart(self, key: str, data: bytes) -> None:
        info = self.run(lambda: self.world.multipart(self.bucket, key, [b"first", data]))
        self.model.add(key, Entry(info.version_id, b"first" + data))

    @rule(source=KEYS, pick=PICK, key=KEYS)
    def copy(self, source: str, pick: int, key: str) -> None:
        entry = self._pick(source, pick)
        if entry is None or entry.data is None:
            return

        async def copy() -> str:
            async with await self.world.store.open_object(self.bucket, source, entry.version_id) as opened:
                made = await self.world.store.copy_object(opened, self.bucket, key, attributes=ObjectAttributes())
            return made.version_id

        self.model.add(key, Entry(self.run(copy), entry.data))

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        result = self.run(lambda: self.world.store.delete_object(self.bucket, key, owner=OWNER))
        if self.model.versioning is Versioning.UNVERSIONED:
            removed = self.model.remove(key, "null")
            assert (result.version_id, result.delete_marker) == ("", False)
            assert (result.removed is None) == (removed is None)
        else:
            assert result.delete_marker
            self.model.add(key, Entry(result.version_id, None))

    @rule(key=KEYS, pick=PICK)
    def delete_version(self, key: str, pick: int) -> None:
        entry = self._pick(key, pick)
        version_id = entry.version_id if entry else "0" * 32
        result = self.run(lambda: self.world.store.delete_object(self.bucket, key, version_id=version_id, owner=OWNER))
        removed = self.model.remove(key, version_id)
        assert result.version_id == version_id
        assert result.delete_marker == (removed is not None and removed.data is None)
        assert (result.removed is None) == (removed is None)

    @rule(key=KEYS)
    def delete_null(self, key: str) -> None:
        self.run(lambda: self.world.store.delete_object(self.bucket, key, version_id="null", owner=OWNER))
        self.model.remove(key, "null")

    @rule(key=KEYS, pick=PICK)
    def tag(self, key: str, pick: int) -> None:
        entry = self._pick(key, pick)
        if entry is None or entry.data is None:
            return
        tags = [("picked", str(pick))]
        info = self.run(lambda: self.world.store.set_tags(self.bucket, key, entry.version_id, tags))
        assert info.version_id == entry.version_id
        assert self.run(lambda: self.world.store.head_object(self.bucket, key, entry.version_id)) == info

    @rule(seconds=st.sampled_from([-3600.0, -0.1, 1.0, 3600.0]))
    def clock_moves(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule()
    def reclaim(self) -> None:
        self.run(self.world.reclaim)

    def _pick(self, key: str, pick: int) -> Entry | None:
        entries = self.model.keys.get(key, [])
        return entries[pick % len(entries)] if entries else None

    @invariant()
    def everything_agrees(self) -> None:
        self.run(self._compare)

    async def _compare(self) -> None:
        store, bucket, model = self.world.store, self.bucket, self.model
        listed = await store.list_objects(bucket)
        assert [item.key for item in listed.objects] == model.objects()
        assert all(item.is_latest and not item.delete_marker for item in listed.objects)
        expected = [(key, entry.version_id, latest, entry.data is None) for key, entry, latest in model.versions()]
        for limit in (1, 3, 1000):
            assert [shown(item) for item in await self._all_versions(limit)] == expected
        for key in NAMES:
            await self._compare_key(key)

    async def _all_versions(self, limit: int) -> list[ListedObject]:
        found: list[ListedObject] = []
        key_marker = version_marker = ""
        while True:
            page = await self.world.store.list_versions(
                self.bucket, key_marker=key_marker, version_marker=version_marker, limit=limit
            )
            found += page.versions
            if not page.truncated:
                return found
            assert len(page.versions) == limit
            key_marker, version_marker = page.next_key, page.next_version_id

    async def _compare_key(self, key: str) -> None:
        latest = self.model.latest(key)
        if latest is None:
            with pytest.raises(NoSuchKey):
                await self.world.store.head_object(self.bucket, key)
        elif latest.data is None:
            with pytest.raises(IsDeleteMarker) as caught:
                await self.world.store.head_object(self.bucket, key)
            assert shown(caught.value.info) == (key, latest.version_id, True, True)
        else:
            info = await self.world.store.head_object(self.bucket, key)
            assert shown(info) == (key, latest.version_id, True, False)
            assert info.attributes.owner in (OWNER, "")
        if self.model.find(key, "null") is None:
            with pytest.raises(NoSuchVersion):
                await self.world.store.head_object(self.bucket, key, "null")
        for entry in self.model.keys.get(key, []):
            if entry.data is not None:
                assert await self.world.get(self.bucket, key, entry.version_id) == entry.data
                if entry.version_id == (latest.version_id if latest else ""):
                    assert await self.world.get(self.bucket, key) == entry.data


class LmdbVersionsMachine(VersionsMachine):
    def open(self) -> AbstractAsyncContextManager[World]:
        self.folder = Path(tempfile.mkdtemp(prefix="atoll-versions-"))
        return lmdb_world(self.folder / "catalog")

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.folder)


TestVersionsOnMemory = VersionsMachine.TestCase
TestVersionsOnMemory.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestVersionsOnLmdb = LmdbVersionsMachine.TestCase
TestVersionsOnLmdb.settings = settings(
    max_examples=10, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
