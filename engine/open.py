"""A version opened for reading."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from catalog.interface import Catalog, Reader
from engine import manifests
from engine.bodies import Bodies, BodyRef, Pin
from engine.errors import Damaged, InvalidPart
from engine.keyring import Keyring, ManifestKeys
from engine.records import ExtentsRow, PartEntry, Version
from engine.types import Bucket, ObjectInfo, Part

#: While this many bytes of an extent are still to be sent, the next extent's first bytes are asked for.
LOOKAHEAD = 4 << 20


@dataclass(frozen=True, slots=True)
class Run:
    """A run of one body's plaintext, with the body's key."""

    ref: BodyRef
    key: bytes
    offset: int
    length: int


class OpenObject:
    """One version's bytes, kept from collection until `close`. Use as `async with await store.open_object(...)`."""

    __slots__ = ("_bodies", "_bucket", "_catalog", "_keyring", "_keys", "_pin", "info", "version")

    def __init__(
        self,
        catalog: Catalog,
        bodies: Bodies,
        keyring: Keyring,
        bucket: Bucket,
        version: Version,
        info: ObjectInfo,
        pin: Pin,
    ) -> None:
        self._catalog = catalog
        self._bodies = bodies
        self._keyring = keyring
        self._bucket = bucket
        self._keys: ManifestKeys | None = None
        self._pin = pin
        #: The record that `info` shows; for the engine's own verbs.
        self.version = version
        self.info = info

    async def __aenter__(self) -> OpenObject:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pin.release()

    def close(self) -> None:
        """Let the bytes go. Idempotent."""
        self._pin.release()

    async def part(self, number: int) -> tuple[int, Part]:
        """Offset and description of a part. Number 1 of an object that was not made by multipart is the whole. Raises
        InvalidPart."""
        version, info = self.version, self.info
        if not version.parts:
            if number != 1:
                raise InvalidPart(number)
            return 0, Part(1, info.size, info.etag, info.checksums, info.modified_us)

        async def look(reader: Reader) -> PartEntry | None:
            return await manifests.find_part(reader, version.manifest, number)

        entry = await self._catalog.read(look)
        if entry is None:
            raise InvalidPart(number)
        return entry.offset, manifests.part_value(entry)

    async def parts(self, after: int = 0, limit: int = 1000) -> list[Part]:
        """Parts with numbers > `after`, in order; none for an object that was not made by multipart."""
        version = self.version
        if not version.parts or limit <= 0:
            return []

        async def look(reader: Reader) -> list[PartEntry]:
            return await manifests.list_parts(reader, version.manifest, after, limit)

        return [manifests.part_value(entry) for entry in await self._catalog.read(look)]

    def read(self, offset: int, length: int) -> AsyncIterator[memoryview]:
        """Plaintext of a range that lies inside the object; views of at most 1 MiB, valid until the next. Raises
        Unavailable or Damaged; close the iterator to stop early."""
        self._check(offset, length)
        version = self.version
        if version.body and (keys := self._keys_now()) is not None:
            return self._bodies.read(BodyRef(version.body, version.size), keys.body, offset, length)
        return self._read(offset, length)

    async def fetch(self, offset: int, length: int) -> bytes:
        """A range of up to 1 MiB (bodies.MAX_FETCH) as one buffer."""
        self._check(offset, length)
        version = self.version
        if version.body:
            keys = self._keys_now() or await self._open_keys()
            body = BodyRef(version.body, version.size)
            found = self._bodies.fetch_now(body, keys.body, offset, length)
            return found if found is not None else await self._bodies.fetch(body, keys.body, offset, length)
        parts: list[bytes] = []
        async for run in self.runs(offset, length):
            found = self._bodies.fetch_now(run.ref, run.key, run.offset, run.length)
            if found is None:
                found = await self._bodies.fetch(run.ref, run.key, run.offset, run.length)
            parts.append(found)
        return b"".join(parts)

    async def content_key(self) -> bytes:
        """The manifest's content key. Raises KeyUnavailable."""
        return (self._keys_now() or await self._open_keys()).content

    async def runs(self, offset: int, length: int) -> AsyncGenerator[Run, None]:
        """The runs that make up a range, in order, found chunk by chunk."""
        keys = self._keys_now() or await self._open_keys()
        version = self.version
        if version.body:
            yield Run(BodyRef(version.body, version.size), keys.body, offset, length)
            return
        end = offset + length
        while offset < end:
            at = offset

            async def look(reader: Reader, at: int = at) -> ExtentsRow | None:
                return await manifests.find_extents(reader, version.manifest, at)

            chunk = await self._catalog.read(look)
            if chunk is None:
                raise Damaged("a manifest ends before its object does")
            position = chunk.offset
            for extent in chunk.extents:
                skip = offset - position
                position += extent.length
                if position <= offset:
                    continue
                take = min(position, end) - offset
                key = (
                    self._keyring.unwrap_body_key(keys.content, extent.body, extent.wrapped)
                    if extent.wrapped
                    else self._keyring.body_key(keys.content, extent.body)
                )
                yield Run(BodyRef(extent.body, extent.body_length), key, extent.offset + skip, take)
                offset += take
                if offset == end:
                    return

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.version.size:
            raise ValueError("the range does not lie inside the object")

    def _keys_now(self) -> ManifestKeys | None:
        """The manifest's keys where they can be had without awaiting."""
        if self._keys is None:
            version = self.version
            try:
                self._keys = self._keyring.open_keys_now(
                    self._bucket.id, version.body or version.manifest, version.size, version.wrapped
                )
            except KeyError:  # the bucket's key is not in memory
                return None
        return self._keys

    async def _open_keys(self) -> ManifestKeys:
        """The same, with the bucket's key from the catalog. Raises KeyUnavailable."""
        version = self.version
        self._keys = await self._keyring.open_keys(
            self._bucket.id, version.body or version.manifest, version.size, version.wrapped
        )
        return self._keys

    async def _read(self, offset: int, length: int) -> AsyncIterator[memoryview]:
        """Run after run; the next one is begun while the last bytes of this one are on their way out."""
        async with contextlib.aclosing(self.runs(offset, length)) as runs:
            run = await anext(runs, None)
            if run is None:
                return
            current: _Started | None = _Started(self._bodies, run)
            ahead: _Started | None = None
            try:
                while current is not None:
                    following = await anext(runs, None)
                    while (view := await current.next()) is not None:
                        if ahead is None and following is not None and current.left <= LOOKAHEAD:
                            ahead = _Started(self._bodies, following)
                        yield view
                    await current.close()
                    current, ahead = ahead, None
            finally:
                for started in (current, ahead):
                    if started is not None:
                        await started.close()


class _Started:
    """A run being read, whose first view is asked for at once. `left` counts bytes not yet handed out."""

    def __init__(self, bodies: Bodies, run: Run) -> None:
        self.left = run.length
        self._views = bodies.read(run.ref, run.key, run.offset, run.length)
        self._first: asyncio.Task[memoryview | None] | None = asyncio.create_task(self._begin(), name="read ahead")

    async def _begin(self) -> memoryview | None:
        return await anext(self._views, None)

    async def next(self) -> memoryview | None:
        first = self._first
        if first is None:
            view = await anext(self._views, None)
        else:
            view = await first
            self._first = None
        if view is not None:
            self.left -= len(view)
        return view

    async def close(self) -> None:
        if self._first is not None:
            self._first.cancel()
            await asyncio.gather(self._first, return_exceptions=True)
        if isinstance(self._views, AsyncGenerator):
            await self._views.aclose()
