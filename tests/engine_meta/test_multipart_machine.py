"""Random histories of uploads of one key against a naive model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.errors import InvalidPart, NoSuchKey, NoSuchUpload
from engine.types import ObjectAttributes, Part
from tests.engine_meta.world import OWNER, memory_world, outcome_of

T = TypeVar("T")

DATA = st.binary(min_size=1, max_size=5)
NUMBER = st.integers(1, 4)
PICK = st.integers(0, 5)


@dataclass
class Begun:
    upload_id: str
    parts: dict[int, bytes] = field(default_factory=dict)
    state: str = "open"
    named: list[Part] = field(default_factory=list)
    version: int = 0


class MultipartMachine(RuleBasedStateMachine):
    """Uploads, their parts, completions and aborts; the object that they make, copies of it, and its removal."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.opened = memory_world()
        self.world = self.run(self.opened.__aenter__)
        self.bucket = self.run(self.world.bucket)
        self.uploads: list[Begun] = []
        self.contents: dict[str, bytes] = {}

    def run(self, function: Callable[[], Awaitable[T]]) -> T:
        async def call() -> T:
            return await function()

        return self.runner.run(call())

    def teardown(self) -> None:
        try:
            for key in ("key", "copy"):
                self.run(lambda: self.world.store.delete_object(self.bucket, key, owner=OWNER))  # noqa: B023
            for upload in self.uploads:
                if upload.state == "open":
                    self.run(lambda: self.world.store.abort_upload(self.bucket, "key", upload.upload_id))  # noqa: B023
            self.run(self.world.reclaim)
            self.run(self.world.audit)
            assert self.run(self.world.alive_bodies) == 0
        finally:
            self.run(lambda: self.opened.__aexit__(None, None, None))
            self.runner.close()

    def _pick(self, pick: int) -> Begun | None:
        return self.uploads[pick % len(self.uploads)] if self.uploads else None

    @rule()
    def begin(self) -> None:
        self.uploads.append(Begun(self.run(lambda: self.world.upload(self.bucket, "key"))))

    @rule(pick=PICK, number=NUMBER, data=DATA)
    def part(self, pick: int, number: int, data: bytes) -> None:
        upload = self._pick(pick)
        if upload is None:
            return
        call = lambda: self.world.part(self.bucket, "key", upload.upload_id, number, data)  # noqa: E731
        if upload.state != "open":
            with pytest.raises(NoSuchUpload):
                self.run(call)
        else:
            assert self.run(call).size == len(data)
            upload.parts[number] = data

    @rule(
        pick=PICK, number=NUMBER, key=st.sampled_from(["key", "copy"]), start=st.integers(0, 9), stop=st.integers(1, 12)
    )
    def part_copy(self, pick: int, number: int, key: str, start: int, stop: int) -> None:
        upload, content = self._pick(pick), self.contents.get(key, b"")
        data = content[start:stop]
        if upload is None or upload.state != "open" or not data:
            return

        async def copy() -> None:
            async with await self.world.store.open_object(self.bucket, key) as source:
                await self.world.store.upload_part_copy(
                    self.bucket, "key", upload.upload_id, number, source, start, len(data), outcome=outcome_of(data)
                )

        self.run(copy)
        upload.parts[number] = data

    @rule(pick=PICK, numbers=st.sets(NUMBER, min_size=1))
    def complete(self, pick: int, numbers: set[int]) -> None:
        upload = self._pick(pick)
        if upload is None:
            return
        named = [Part(n, 0, outcome_of(upload.parts.get(n, b"")).etag) for n in sorted(numbers)]
        call = lambda: self.world.complete(self.bucket, "key", upload.upload_id, named)  # noqa: E731
        if upload.state == "aborted" or (upload.state == "completed" and named != upload.named):
            with pytest.raises(NoSuchUpload):
                self.run(call)
        elif upload.state == "completed":
            assert self.run(call).modified_us == upload.version
        elif numbers - upload.parts.keys():
            with pytest.raises(InvalidPart):
                self.run(call)
        else:
            info = self.run(call)
            upload.state, upload.named, upload.version = "completed", named, info.modified_us
            self.contents["key"] = b"".join(upload.parts[n] for n in sorted(numbers))

    @rule(pick=PICK)
    def abort(self, pick: int) -> None:
        upload = self._pick(pick)
        if upload is None:
            return
        call = lambda: self.world.store.abort_upload(self.bucket, "key", upload.upload_id)  # noqa: E731
        if upload.state == "open":
            self.run(call)
            upload.state = "aborted"
        else:
            with pytest.raises(NoSuchUpload):
                self.run(call)

    @rule()
    def copy(self) -> None:
        if "key" not in self.contents:
            return

        async def copy() -> None:
            async with await self.world.store.open_object(self.bucket, "key") as source:
                await self.world.store.copy_object(source, self.bucket, "copy", attributes=ObjectAttributes())

        self.run(copy)
        self.contents["copy"] = self.contents["key"]

    @rule(key=st.sampled_from(["key", "copy"]))
    def delete(self, key: str) -> None:
        self.run(lambda: self.world.store.delete_object(self.bucket, key, owner=OWNER))
        self.contents.pop(key, None)

    @rule()
    def reclaim(self) -> None:
        self.run(self.world.reclaim)
        self.run(self.world.audit)

    @invariant()
    def everything_agrees(self) -> None:
        self.run(self._compare)

    async def _compare(self) -> None:
        page = await self.world.store.list_uploads(self.bucket)
        open_ids = {upload.upload_id for upload in self.uploads if upload.state == "open"}
        assert {item.upload_id for item in page.uploads} == open_ids
        for upload in self.uploads:
            if upload.state == "open":
                listed = await self.world.store.list_parts(self.bucket, "key", upload.upload_id)
                assert [(part.number, part.etag) for part in listed.parts] == [
                    (n, outcome_of(data).etag) for n, data in sorted(upload.parts.items())
                ]
        for key in ("key", "copy"):
            if key in self.contents:
                assert await self.world.get(self.bucket, key) == self.contents[key]
            else:
                with pytest.raises(NoSuchKey):
                    await self.world.store.head_object(self.bucket, key)


TestMultipart = MultipartMachine.TestCase
TestMultipart.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
