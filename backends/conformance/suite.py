"""`BackendConformance`: what the contract in `backends.interface` means, as tests.

A backend's test is a subclass that says how to make one:

    class TestMine(BackendConformance):
        async def make_backend(self) -> Backend:
            return MyBackend(...)

pytest with pytest-asyncio runs the methods as they are (`asyncio_mode = "auto"`); without either,
`await TestMine().check()` runs them all in turn.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from backends.conformance.sources import BytesSource, FailingSource, StalledSource
from backends.errors import AlreadyExists, NotFound, PermanentError
from backends.interface import MAX_LOCATOR, Backend, Entry, PieceSource
from core.buffers import Buffer
from core.ids import new_piece_name

_EPOCH = 7


class BackendConformance:
    """Subclass it, name the class `Test…`, and give it `make_backend`."""

    #: Bytes of the longest piece that the suite stores; lower it where storing costs money or minutes.
    largest = 5 * 1024 * 1024 + 3

    async def make_backend(self) -> Backend:
        """A backend that holds no pieces, not opened yet. Called once for each test."""
        raise TypeError(f"{type(self).__name__} must override make_backend")

    async def remove_backend(self, backend: Backend) -> None:
        """Give back what `make_backend` took. Called after `close`; by default there is nothing to do."""

    async def check(self) -> list[str]:
        """Run every test; returns their names. Raises the first failure. For use without a test framework."""
        names = [name for name in dir(self) if name.startswith("test_")]
        for name in names:
            await getattr(self, name)()
        return names

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Backend]:
        backend = await self.make_backend()
        await backend.open()
        try:
            yield backend
        finally:
            await backend.close()
            await self.remove_backend(backend)

    # -- what was put is what is got

    async def test_bytes_come_back(self) -> None:
        async with self.opened() as backend:
            for size in (0, 1, 4095, 65_552, 1_048_577, self.largest):
                content = _content(size, size)
                locator = await backend.put(new_piece_name(_EPOCH), BytesSource(content))
                assert await _get(backend, locator, 0, size) == content, f"a piece of {size} bytes came back different"

    async def test_locator_is_short_bytes(self) -> None:
        async with self.opened() as backend:
            locator = await backend.put(new_piece_name(_EPOCH), BytesSource(b"piece"))
            assert isinstance(locator, bytes)
            assert 0 < len(locator) <= MAX_LOCATOR

    async def test_chunks_of_every_kind_are_joined_in_order(self) -> None:
        async with self.opened() as backend:
            chunks: list[Buffer] = [b"", b"bytes", bytearray(b"bytearray"), memoryview(b"a memoryview")[2:], b""]
            chunks += [bytes([number % 251]) * 40_000 for number in range(80)]
            locator = await backend.put(new_piece_name(_EPOCH), BytesSource(*chunks))
            content = b"".join(chunks)
            assert await _get(backend, locator, 0, len(content)) == content

    async def test_ranges(self) -> None:
        async with self.opened() as backend:
            content = _content(1, 200_000)
            locator = await backend.put(new_piece_name(_EPOCH), BytesSource(content))
            for offset, length in ((0, 1), (199_999, 1), (65_535, 2), (1, 199_999), (100_000, 0)):
                assert await _get(backend, locator, offset, length) == content[offset : offset + length]

    async def test_range_ends_where_the_piece_ends(self) -> None:
        async with self.opened() as backend:
            locator = await backend.put(new_piece_name(_EPOCH), BytesSource(b"0123456789"))
            assert await _get(backend, locator, 8, 100) == b"89"
            assert await _get(backend, locator, 10, 5) == b""
            assert await _get(backend, locator, 1_000_000, 5) == b""

    async def test_many_reads_at_once(self) -> None:
        async with self.opened() as backend:
            content = _content(2, 300_000)
            locator = await backend.put(new_piece_name(_EPOCH), BytesSource(content))
            offsets = range(0, 300_000, 10_000)
            found = await asyncio.gather(*(_get(backend, locator, offset, 10_000) for offset in offsets))
            assert b"".join(found) == content

    async def test_many_pieces_at_once(self) -> None:
        async with self.opened() as backend:
            contents = {new_piece_name(_EPOCH): bytes([number]) * (1000 + number) for number in range(40)}
            puts = (backend.put(name, BytesSource(content)) for name, content in contents.items())
            locators = await asyncio.gather(*puts)
            found = await asyncio.gather(*(_get(backend, locator, 0, 2000) for locator in locators))
            assert found == list(contents.values())

    # -- names are taken once

    async def test_put_never_replaces(self) -> None:
        async with self.opened() as backend:
            name = new_piece_name(_EPOCH)
            locator = await backend.put(name, BytesSource(b"first"))
            await _raises(AlreadyExists, backend.put(name, BytesSource(b"second")))
            assert await _get(backend, locator, 0, 10) == b"first"

    async def test_one_of_many_puts_of_a_name_wins(self) -> None:
        async with self.opened() as backend:
            name = new_piece_name(_EPOCH)
            contents = [bytes([number]) * 10_000 for number in range(8)]
            puts = (backend.put(name, BytesSource(content)) for content in contents)
            results = await asyncio.gather(*puts, return_exceptions=True)
            winners = [number for number, result in enumerate(results) if isinstance(result, bytes)]
            assert len(winners) == 1, f"{len(winners)} puts of one name succeeded"
            losers = [result for result in results if not isinstance(result, bytes)]
            assert all(isinstance(result, PermanentError) for result in losers)
            locator = results[winners[0]]
            assert isinstance(locator, bytes)
            assert await _get(backend, locator, 0, 20_000) == contents[winners[0]]

    # -- what failed is not there

    async def test_failed_source_leaves_nothing(self) -> None:
        async with self.opened() as backend:
            name = new_piece_name(_EPOCH)
            error = ValueError("the source broke")
            for chunks in ([], [b"some"], [bytes(700_000)] * 4):
                raised = await _raises(ValueError, backend.put(name, FailingSource(error, *chunks)))
                assert raised is error, "the source's own error must come out"
                await _shows(backend, {})
            await backend.put(name, BytesSource(b"the name is still free"))

    async def test_cancelled_put_leaves_nothing(self) -> None:
        async with self.opened() as backend:
            name = new_piece_name(_EPOCH)
            for size in (10, 3_000_000):
                source = StalledSource(bytes(size), bytes(size))
                task = asyncio.ensure_future(backend.put(name, source))
                await source.stalled.wait()
                await _shows(backend, {})  # still being written
                task.cancel()
                await _raises(asyncio.CancelledError, task)
                await _shows(backend, {})
            await backend.put(name, BytesSource(b"the name is still free"))

    async def test_put_cancelled_at_any_moment_is_whole_or_absent(self) -> None:
        async with self.opened() as backend:
            content = bytes(range(256)) * 100
            for steps in range(30):
                name = new_piece_name(_EPOCH)
                task = asyncio.ensure_future(backend.put(name, BytesSource(content[:9000], content[9000:])))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                outcome = (await asyncio.gather(task, return_exceptions=True))[0]
                if isinstance(outcome, bytes):
                    await _shows(backend, {name: len(content)}, name)
                    assert await _get(backend, outcome, 0, len(content)) == content
                else:
                    await _shows(backend, {}, name)

    # -- finding, counting and removing

    async def test_missing_piece_is_not_found(self) -> None:
        async with self.opened() as backend:
            locator = await backend.put(new_piece_name(_EPOCH), BytesSource(b"gone soon"))
            await backend.delete(locator)
            await _raises(NotFound, backend.get(locator, 0, 1))
            await _raises(NotFound, backend.stat(locator))

    async def test_delete_right_after_reading(self) -> None:
        async with self.opened() as backend:
            locator = await backend.put(new_piece_name(_EPOCH), BytesSource(b"read, then deleted"))
            await _get(backend, locator, 0, 4)
            reads = [asyncio.ensure_future(_get(backend, locator, 0, 4)) for _ in range(4)]
            await backend.delete(locator)
            for outcome in await asyncio.gather(*reads, return_exceptions=True):
                assert outcome == b"read" or isinstance(outcome, NotFound)
            await _raises(NotFound, backend.get(locator, 0, 4))

    async def test_delete_twice_succeeds(self) -> None:
        async with self.opened() as backend:
            locator = await backend.put(new_piece_name(_EPOCH), BytesSource(b"piece"))
            await backend.delete(locator)
            await backend.delete(locator)
            await _shows(backend, {})

    async def test_stat(self) -> None:
        async with self.opened() as backend:
            name = new_piece_name(_EPOCH)
            locator = await backend.put(name, BytesSource(b"12345", b"678"))
            assert await backend.stat(locator) == Entry(name, 8)

    async def test_list_by_prefix(self) -> None:
        async with self.opened() as backend:
            if not backend.properties().supports_list:
                return
            sizes = {new_piece_name(epoch): epoch * 3 for epoch in (1, 1, 1, 2, 2, 0x20)}
            for name, size in sizes.items():
                await backend.put(name, BytesSource(bytes(size)))
            await _shows(backend, sizes)
            some = next(iter(sizes))
            for prefix in (f"{1:016x}-", f"{2:016x}-", f"{3:016x}-", some[:18], some[:19], some[:25], some, some + "0"):
                expected = {name: size for name, size in sizes.items() if name.startswith(prefix)}
                await _shows(backend, expected, prefix)

    async def test_list_while_pieces_come_and_go(self) -> None:
        async with self.opened() as backend:
            if not backend.properties().supports_list:
                return
            kept = {new_piece_name(_EPOCH) for _ in range(20)}
            for name in kept:
                await backend.put(name, BytesSource(b"kept"))
            passing = [await backend.put(new_piece_name(_EPOCH), BytesSource(b"passing")) for _ in range(20)]
            seen: list[str] = []
            async for entry in backend.list():
                seen.append(entry.name)
                if passing:
                    await backend.delete(passing.pop())
            assert kept <= set(seen)
            assert len(seen) == len(set(seen)), "a piece was listed twice"

    # -- the place itself

    async def test_properties_are_sane(self) -> None:
        async with self.opened() as backend:
            properties = backend.properties()
            assert properties.kind
            assert properties.connections > 0
            assert backend.properties() == properties

    async def test_capacity_is_sane(self) -> None:
        async with self.opened() as backend:
            capacity = await backend.capacity()
            assert 0 <= capacity.used <= capacity.total
            assert 0 <= capacity.free <= capacity.total

    async def test_open_is_idempotent(self) -> None:
        async with self.opened() as backend:
            locator = await backend.put(new_piece_name(_EPOCH), BytesSource(b"piece"))
            await backend.open()
            assert await _get(backend, locator, 0, 10) == b"piece"

    async def test_pieces_outlive_close_and_open(self) -> None:
        async with self.opened() as backend:
            name = new_piece_name(_EPOCH)
            locator = await backend.put(name, BytesSource(b"piece"))
            await backend.close()
            await backend.open()
            assert await _get(backend, locator, 0, 10) == b"piece"
            await _shows(backend, {name: 5}, name)

    async def test_digest_is_asked_only_at_the_end(self) -> None:
        async with self.opened() as backend:
            source: PieceSource = BytesSource(b"BytesSource", b"itself", b"asserts it")
            await backend.put(new_piece_name(_EPOCH), source)
            assert len(source.digest()) == 32, "put must read the source to its end"


def _content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311  # test data


async def _get(backend: Backend, locator: bytes, offset: int, length: int) -> bytes:
    return bytes(await backend.get(locator, offset, length))


async def _shows(backend: Backend, expected: dict[str, int], prefix: str = "") -> None:
    """Check the names and sizes that a listing shows, where the backend can list."""
    if backend.properties().supports_list:
        listed = {entry.name: entry.size async for entry in backend.list(prefix)}
        assert listed == expected, f"listing {prefix!r}"


async def _raises(expected: type[BaseException], awaitable: object) -> BaseException:
    """The error that the call raises; fails if there is none or another."""
    try:
        await awaitable  # type: ignore[misc]  # any awaitable
    except expected as error:
        return error
    raise AssertionError(f"{expected.__name__} was expected")
