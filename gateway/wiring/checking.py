"""`atoll check` on the server's side: first every piece of every segment is proven against its hashes, then every
version of every object is read to its end, as a client would read it.

The first finds damage that reads do not meet (parity, idle replicas) and can repair it; the second finds what no piece
can show (a key that does not open, a small object's bytes in the catalog) and names objects that can't be read.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from core.errors import AtollError
from engine.errors import EngineError, NoSuchBucket, NoSuchKey, NoSuchVersion
from engine.scrub import SegmentCheck, count_segments, scrub
from engine.types import Bucket, ListedObject

if TYPE_CHECKING:
    from gateway.wiring.build import Gateway

_PAGE = 200
_STEP_OBJECTS = 25  # objects between two steps


class BadPlace(AtollError):
    """The place to resume from is not one that a check printed."""


class Place(msgspec.Struct, array_like=True):
    """Where a check is: after a segment, or after a version of an object."""

    segment: str = ""
    bucket: str = ""
    key: str = ""
    version: str = ""

    def text(self) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises BadPlace."""
        try:
            place = msgspec.json.decode(base64.urlsafe_b64decode(text), type=cls) if text else cls()
            bytes.fromhex(place.segment)
        except (ValueError, msgspec.MsgspecError) as error:
            raise BadPlace("not a place that a check printed") from error
        return place


@dataclass
class Checking:
    """One run; `run` yields the steps that the operator sees, the last with `end`."""

    gateway: Gateway
    repair: bool
    place: Place
    total: int = 0
    segments: int = 0
    pieces: int = 0
    objects: int = 0
    size: int = 0
    damaged: int = 0
    repaired: int = 0
    unrepaired: int = 0
    unreachable: int = 0
    unreadable: int = 0
    fresh: list[str] = field(default_factory=list)

    async def run(self) -> AsyncIterator[dict[str, Any]]:
        self.total = await count_segments(self.gateway.bodies)
        if not self.place.bucket:
            async for step in self._pieces():
                yield step
        async for step in self._objects():
            yield step
        yield {**self._step("objects"), "end": True}

    def _step(self, phase: str) -> dict[str, Any]:
        found, self.fresh = self.fresh, []
        return {
            "phase": phase,
            "place": self.place.text(),
            "damage": found,
            "total": self.total,
            "segments": self.segments,
            "pieces": self.pieces,
            "objects": self.objects,
            "bytes": self.size,
            "damaged": self.damaged,
            "repaired": self.repaired,
            "unrepaired": self.unrepaired,
            "unreachable": self.unreachable,
            "unreadable": self.unreadable,
        }

    async def _pieces(self) -> AsyncIterator[dict[str, Any]]:
        after = bytes.fromhex(self.place.segment)
        now_us = self.gateway.clock.now_us()
        async for check in scrub(self.gateway.bodies, repair=self.repair, now_us=now_us, after=after):
            self._note(check)
            self.place = Place(segment=check.segment_id.hex())
            yield self._step("pieces")

    def _note(self, check: SegmentCheck) -> None:
        self.segments += 1
        self.pieces += check.sound
        self.size += check.size
        self.unreachable += len(check.unreachable)
        short = bool(check.findings or check.unwritten)
        self.damaged += short
        if short and check.repaired:
            self.repaired += 1
        elif check.findings or check.lost:
            self.unrepaired += 1
        name = check.segment_id.hex()
        for finding in check.findings:
            node = self._node_of(check.segment_id, finding.index)
            what = f"piece {finding.index} on {node}, stripe {finding.stripe}: {finding.kind}"
            self.fresh.append(f"segment {name}, {what}")
        if check.lost:
            self.fresh.append(f"segment {name}: too few sound pieces among the nodes that answer")
        if check.problem:
            self.fresh.append(f"segment {name}: not repaired: {check.problem}")

    def _node_of(self, segment_id: bytes, index: int) -> str:
        segment = self.gateway.bodies.registry.cached(segment_id)
        node = self.gateway.placer.node(segment.piece(index).node) if segment is not None else None
        return node.name if node is not None else "a node that is not known"

    async def _objects(self) -> AsyncIterator[dict[str, Any]]:
        store = self.gateway.store
        after_bucket = ""
        while True:
            buckets, after_bucket = await store.list_buckets(owner=None, after=after_bucket)
            for bucket in buckets:
                if bucket.name >= self.place.bucket:
                    async for step in self._bucket(bucket):
                        yield step
            if not after_bucket:
                return

    async def _bucket(self, bucket: Bucket) -> AsyncIterator[dict[str, Any]]:
        resumed = self.place if self.place.bucket == bucket.name else Place()
        key, version = resumed.key, resumed.version
        while True:
            try:
                page = await self.gateway.store.list_versions(
                    bucket, key_marker=key, version_marker=version, limit=_PAGE
                )
            except NoSuchBucket:
                return
            for listed in page.versions:
                if not listed.delete_marker:
                    await self._read(bucket, listed)
                self.place = Place(bucket=bucket.name, key=listed.key, version=listed.version_id)
                if self.objects % _STEP_OBJECTS == 0 or self.fresh:
                    yield self._step("objects")
            if not page.truncated:
                return
            key, version = page.next_key, page.next_version_id

    async def _read(self, bucket: Bucket, listed: ListedObject) -> None:
        self.objects += 1
        try:
            async with await self.gateway.store.open_object(bucket, listed.key, listed.version_id) as opened:
                length = 0
                async for view in opened.read(0, opened.info.size):
                    length += len(view)
            if length != listed.size:
                raise EngineError(f"{length} bytes instead of {listed.size}")
        except (NoSuchKey, NoSuchVersion):
            return  # removed meanwhile
        except AtollError as error:
            self.unreadable += 1
            self.unrepaired += 1
            self.fresh.append(f"object {bucket.name}/{listed.key} version {listed.version_id}: {error}")
