"""What each decorator adds, one mechanism a test."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from backends.conformance import BytesSource, FailingSource, StalledSource
from backends.decorators import (
    Fault,
    FaultRule,
    FaultyBackend,
    LimitBackend,
    MeterBackend,
    RetryBackend,
    unwrap,
)
from backends.errors import AlreadyExists, NotFound, PermanentError, RetryLater
from backends.interface import PieceSource
from backends.memory import MemoryBackend
from core.buffers import Buffer
from core.ids import new_piece_name

NAME = new_piece_name(1)


async def faulty(*rules: FaultRule, seed: int = 0) -> FaultyBackend:
    backend = FaultyBackend(MemoryBackend(), seed=seed, rules=list(rules))
    await backend.inner.open()
    return backend


class Retrying(RetryBackend):
    """Notes the pauses instead of sleeping."""

    def __init__(self, inner: FaultyBackend, attempts: int = 4, base: float = 0.05, total: float = 15.0) -> None:
        self.pauses: list[float] = []
        super().__init__(inner, attempts=attempts, base=base, total=total, rng=random.Random(1), sleep=self._note)

    async def _note(self, seconds: float) -> None:
        self.pauses.append(seconds)


class OnceSource:
    """A source that can't begin again."""

    def __init__(self, source: BytesSource) -> None:
        self._source = source

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        async for buffer in self._source:
            yield buffer

    def digest(self) -> bytes:
        return self._source.digest()


# -- retry


async def test_retry_gets_through_passing_trouble() -> None:
    inner = await faulty(FaultRule("*", Fault.ERROR, times=3))
    backend = Retrying(inner)
    locator = await backend.put(NAME, BytesSource(b"piece"))
    inner.rules.append(FaultRule("*", Fault.ERROR, times=3))
    assert bytes(await backend.get(locator, 0, 10)) == b"piece"
    assert backend.retries == 6
    assert inner.injected == {("put", Fault.ERROR): 3, ("get", Fault.ERROR): 3}


@pytest.mark.parametrize("operation", ["get", "stat", "delete", "list", "capacity", "open"])
async def test_retry_covers_every_operation(operation: str) -> None:
    inner = await faulty()
    backend = Retrying(inner)
    locator = await backend.put(NAME, BytesSource(b"piece"))
    inner.rules.append(FaultRule(operation, Fault.ERROR, times=2))
    if operation == "list":
        assert [entry.name async for entry in backend.list()] == [NAME]
    elif operation == "get":
        assert await backend.get(locator, 0, 5) == b"piece"
    elif operation in ("stat", "delete"):
        await getattr(backend, operation)(locator)
    else:
        await getattr(backend, operation)()
    assert backend.retries == 2


async def test_retry_restarts_the_source_of_a_broken_put() -> None:
    backend = Retrying(await faulty(FaultRule("put", Fault.BREAK, times=2)))
    source = BytesSource(b"first", b"second")
    locator = await backend.put(NAME, source)
    assert source.restarts == 2
    assert bytes(await backend.get(locator, 0, 20)) == b"firstsecond"


async def test_retry_leaves_a_source_that_cannot_restart() -> None:
    backend = Retrying(await faulty(FaultRule("put", Fault.ERROR, times=1)))
    source: PieceSource = OnceSource(BytesSource(b"once"))
    with pytest.raises(RetryLater):
        await backend.put(NAME, source)
    assert backend.retries == 0


async def test_retry_tells_when_an_earlier_attempt_had_stored_the_piece() -> None:
    backend = Retrying(await faulty(FaultRule("put", Fault.LATE_ERROR, times=1)))
    with pytest.raises(AlreadyExists):
        await backend.put(NAME, BytesSource(b"piece"))


async def test_retry_gives_up_after_its_attempts() -> None:
    inner = await faulty(FaultRule("capacity", Fault.ERROR))
    backend = Retrying(inner, attempts=5)
    with pytest.raises(RetryLater):
        await backend.capacity()
    assert inner.injected["capacity", Fault.ERROR] == 5


async def test_retry_gives_up_when_its_time_would_end() -> None:
    inner = await faulty(FaultRule("capacity", Fault.ERROR))
    backend = Retrying(inner, attempts=100, base=10.0, total=1.0)
    with pytest.raises(RetryLater):
        await backend.capacity()
    assert inner.injected["capacity", Fault.ERROR] < 10


async def test_retry_waits_longer_each_time_and_never_the_same() -> None:
    backend = Retrying(await faulty(FaultRule("capacity", Fault.ERROR)), attempts=12, total=1e9)
    with pytest.raises(RetryLater):
        await backend.capacity()
    bounds = [min(2.0, 0.05 * 2**attempt) for attempt in range(11)]
    assert len(backend.pauses) == 11
    assert all(0 <= pause <= bound for pause, bound in zip(backend.pauses, bounds, strict=True))
    assert len(set(backend.pauses)) == 11
    assert max(backend.pauses) > 0.5


@pytest.mark.parametrize("error", [PermanentError, NotFound, ValueError])
async def test_retry_lets_other_errors_out_at_once(error: type[Exception]) -> None:
    inner = await faulty(FaultRule("capacity", Fault.ERROR, error=error))
    with pytest.raises(error):
        await Retrying(inner).capacity()
    assert inner.injected["capacity", Fault.ERROR] == 1


# -- limit


async def test_limit_bounds_what_is_under_way_and_who_waits() -> None:
    inner = await faulty(FaultRule("get", Fault.HANG))
    backend = LimitBackend(inner, concurrent=3, waiting=2)
    locator = await backend.put(NAME, BytesSource(b"x"))
    calls = [asyncio.ensure_future(backend.get(locator, 0, 1)) for _ in range(5)]
    await asyncio.sleep(0.01)
    assert inner.injected["get", Fault.HANG] == 3
    assert backend.waiting == 2
    with pytest.raises(RetryLater, match="3 calls are under way and 2 wait"):
        await backend.get(locator, 0, 1)
    assert backend.refused == 1
    inner.rules.clear()
    inner.release()
    assert await asyncio.gather(*calls) == [b"x"] * 5
    assert backend.waiting == 0


async def test_limit_frees_the_slot_of_a_cancelled_call() -> None:
    inner = await faulty(FaultRule("get", Fault.HANG))
    backend = LimitBackend(inner, concurrent=1, waiting=1)
    locator = await backend.put(NAME, BytesSource(b"x"))
    running, waiting = (asyncio.ensure_future(backend.get(locator, 0, 1)) for _ in range(2))
    await asyncio.sleep(0.01)
    waiting.cancel()
    running.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)
    inner.rules.clear()
    assert await asyncio.wait_for(backend.get(locator, 0, 1), 1) == b"x"


async def test_limit_lets_a_listing_call_back() -> None:
    backend = LimitBackend(await faulty(), concurrent=1, waiting=0)
    await backend.put(NAME, BytesSource(b"x"))
    async for entry in backend.list():
        await backend.delete(entry.name.encode())
    assert [entry async for entry in backend.list()] == []


# -- meter


async def test_meter_counts_calls_bytes_errors_and_time() -> None:
    inner = await faulty(FaultRule("get", Fault.DELAY, seconds=0.03, times=1))
    backend = MeterBackend(inner)
    locator = await backend.put(NAME, BytesSource(b"12345", b"678"))
    await backend.get(locator, 0, 3)
    with pytest.raises(NotFound):
        await backend.stat(b"nothing")
    with pytest.raises(ZeroDivisionError):
        await backend.put(new_piece_name(1), FailingSource(ZeroDivisionError(), b"1234"))
    snapshot = backend.snapshot()
    assert (snapshot["put"].calls, snapshot["put"].bytes) == (2, 12)
    assert snapshot["put"].errors == {"ZeroDivisionError": 1}
    assert (snapshot["get"].calls, snapshot["get"].bytes, snapshot["get"].under_way) == (1, 3, 0)
    assert snapshot["get"].seconds >= 0.03
    assert sum(snapshot["get"].buckets[:7]) == 0  # a bucket below 10 ms would be wrong
    assert sum(snapshot["get"].buckets) == 1
    assert snapshot["stat"].errors == {"NotFound": 1}


async def test_meter_shows_what_is_under_way_and_gives_copies() -> None:
    backend = MeterBackend(await faulty())
    source = StalledSource(b"1234")
    put = asyncio.ensure_future(backend.put(NAME, source))
    await source.stalled.wait()
    before = backend.snapshot()
    source.release.set()
    await put
    assert (before["put"].under_way, before["put"].calls, sum(before["put"].buckets)) == (1, 1, 0)
    assert backend.snapshot()["put"].under_way == 0


async def test_meter_keeps_a_source_restartable() -> None:
    backend = MeterBackend(Retrying(await faulty(FaultRule("put", Fault.ERROR, times=1))))
    locator = await backend.put(NAME, BytesSource(b"piece"))
    assert await backend.get(locator, 0, 5) == b"piece"


# -- faults


async def answers(backend: FaultyBackend, locator: bytes, count: int) -> list[bytes]:
    found = []
    for _ in range(count):
        try:
            found.append(bytes(await backend.get(locator, 0, 100)))
        except RetryLater:
            found.append(b"error")
    return found


async def test_faults_are_repeatable_from_their_seed() -> None:
    async def run(seed: int) -> list[bytes]:
        rules = [
            FaultRule("get", Fault.ERROR, 0.2),
            FaultRule("get", Fault.FLIP, 0.3),
            FaultRule("get", Fault.SHORT, 0.3),
        ]
        backend = await faulty(*rules, seed=seed)
        return await answers(backend, await backend.put(NAME, BytesSource(bytes(100))), 200)

    assert await run(1) == await run(1)
    assert await run(1) != await run(2)


async def test_flip_changes_one_bit_and_never_what_is_stored() -> None:
    backend = await faulty(FaultRule("get", Fault.FLIP, times=50))
    locator = await backend.put(NAME, BytesSource(bytes(100)))
    for answer in await answers(backend, locator, 50):
        assert sum(byte.bit_count() for byte in answer) == 1
    assert await answers(backend, locator, 1) == [bytes(100)]
    assert backend.injected["get", Fault.FLIP] == 50


async def test_short_answers_are_shorter() -> None:
    backend = await faulty(FaultRule("get", Fault.SHORT, times=50))
    locator = await backend.put(NAME, BytesSource(bytes(100)))
    assert all(len(answer) < 100 for answer in await answers(backend, locator, 50))
    assert await answers(backend, locator, 1) == [bytes(100)]


async def test_spoiled_puts_are_stored_spoiled() -> None:
    backend = await faulty(FaultRule("put", Fault.FLIP, times=1), FaultRule("put", Fault.SHORT, times=1))
    flipped = await backend.put(new_piece_name(1), BytesSource(b"", bytes(50), bytes(50)))
    short = await backend.put(new_piece_name(1), BytesSource(bytes(50), bytes(50)))
    assert sum(byte.bit_count() for byte in bytes(await backend.get(flipped, 0, 200))) == 1
    assert len(await backend.get(short, 0, 200)) < 50


async def test_lost_puts_tell_success() -> None:
    backend = await faulty(FaultRule("put", Fault.LOSE, times=1))
    locator = await backend.put(NAME, BytesSource(b"piece"))
    with pytest.raises(NotFound):
        await backend.get(locator, 0, 5)


async def test_broken_put_leaves_nothing() -> None:
    backend = await faulty(FaultRule("put", Fault.BREAK, times=2))
    for chunks in ([b"first", b"second"], [b""]):
        with pytest.raises(RetryLater, match="middle"):
            await backend.put(NAME, BytesSource(*chunks))
    assert [entry async for entry in backend.list()] == []


async def test_hang_ends_by_cancelling_or_release() -> None:
    backend = await faulty(FaultRule("stat", Fault.HANG, times=2))
    locator = await backend.put(NAME, BytesSource(b"x"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(backend.stat(locator), 0.02)
    hanging = asyncio.ensure_future(backend.stat(locator))
    await asyncio.sleep(0.01)
    assert not hanging.done()
    backend.release()
    assert (await hanging).size == 1


async def test_rules_select_by_name_order_and_count() -> None:
    backend = await faulty(FaultRule("stat", Fault.ERROR, prefix="0" * 15 + "2", after=1, times=2))
    one, two = new_piece_name(1), new_piece_name(2)
    for name in (one, two):
        await backend.put(name, BytesSource(b"x"))
    outcomes = []
    for name in (one, two, one, two, two, two):
        try:
            outcomes.append((await backend.stat(name.encode())).size)
        except RetryLater:
            outcomes.append(-1)
    assert outcomes == [1, 1, 1, -1, -1, 1]
    assert backend.injected == {("stat", Fault.ERROR): 2}


async def test_a_fault_that_an_operation_cannot_have_is_not_counted() -> None:
    backend = await faulty(FaultRule("*", Fault.SHORT))
    await backend.capacity()
    assert backend.injected == {}


# -- stacks


async def test_unwrap_finds_a_layer() -> None:
    memory = MemoryBackend()
    stack = MeterBackend(RetryBackend(LimitBackend(memory)))
    assert unwrap(stack, MemoryBackend) is memory
    assert unwrap(stack, LimitBackend) is not None
    assert unwrap(stack, FaultyBackend) is None
