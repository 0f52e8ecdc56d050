"""Workers of several processes under leases: one works, the others stand by, take over, and are fenced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from catalog.epochs import Epochs
from catalog.errors import CatalogFull, LeaseLost
from catalog.fencing import FencedCatalog, fenced_by
from catalog.interface import Transaction
from catalog.leased_worker import LeasedWorker
from catalog.leases import Lease, Leases
from catalog.memory import MemoryCatalog
from core.workers import HandOver, WorkerReport, WorkerState
from tests.catalog.clocks import ManualClock

SECONDS = 60.0
#: When an epoch's heartbeat is overdue, in seconds.
EXPIRY = 30


class Counting:
    """Appends its process's name to one row, each turn. `pause` runs before the transaction."""

    name = "counting"
    interval = 600.0

    def __init__(self, process: Process) -> None:
        self.process = process
        self.state = WorkerState.BUSY
        self.turns = self.standbys = self.forced = 0
        self.pause: Callable[[], Awaitable[None]] | None = None

    async def turn(self) -> WorkerState:
        self.turns += 1
        if self.pause is not None:
            await self.pause()

        async def append(txn: Transaction) -> None:
            txn.put(b"\x10log", (await txn.get(b"\x10log") or b"") + self.process.name)

        await self.process.fenced.transact(append)
        return self.state

    async def standby(self) -> WorkerState:
        self.standbys += 1
        return WorkerState.IDLE

    def force(self) -> None:
        self.forced += 1

    def report(self) -> WorkerReport:
        return WorkerReport(self.state, "counting on")


class Process:
    """One process on the shared catalog."""

    def __init__(self, name: bytes, catalog: MemoryCatalog, clock: ManualClock, epochs: Epochs) -> None:
        self.name, self.epochs = name, epochs
        self.fenced = FencedCatalog(catalog)
        leases = Leases(catalog, clock, holder=epochs.holder, lives=epochs.lives)
        self.worker = Counting(self)
        self.leased = LeasedWorker(self.worker, leases, clock, seconds=SECONDS)


class Processes:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.catalog = MemoryCatalog()

    async def start(self, name: bytes, *, alone: bool = False) -> Process:
        return Process(name, self.catalog, self.clock, await Epochs.register(self.catalog, self.clock, alone=alone))

    async def log(self) -> bytes:
        return await self.catalog.read(lambda reader: reader.get(b"\x10log")) or b""


@pytest.fixture
def processes() -> Processes:
    return Processes()


async def test_one_works_and_the_other_stands_by(processes: Processes) -> None:
    one, two = await processes.start(b"1"), await processes.start(b"2")
    assert [await one.leased.turn(), await two.leased.turn(), await one.leased.turn()] == [
        WorkerState.BUSY,
        WorkerState.IDLE,
        WorkerState.BUSY,
    ]
    assert await processes.log() == b"11"
    assert (two.worker.turns, two.worker.standbys) == (0, 1)
    assert two.leased.report().progress == "left to another gateway"
    assert one.leased.report().progress == "counting on"
    assert two.leased.interval < one.leased.interval == Counting.interval, "who waits looks often enough to take over"


async def test_released_at_the_end(processes: Processes) -> None:
    one, two = await processes.start(b"1"), await processes.start(b"2")
    await one.leased.turn()
    await one.leased.release()
    await two.leased.turn()
    assert await processes.log() == b"12"


async def test_a_worker_that_is_done_lets_go(processes: Processes) -> None:
    one, two = await processes.start(b"1"), await processes.start(b"2")
    one.worker.state = WorkerState.DONE
    assert await one.leased.turn() is WorkerState.DONE
    await two.leased.turn()
    assert await processes.log() == b"12"


async def test_taken_over_when_the_holder_is_silent(processes: Processes) -> None:
    """Its epoch lives (something beats for it), but nothing prolongs the lease."""
    one, two = await processes.start(b"1"), await processes.start(b"2")
    await one.leased.turn()
    await two.leased.turn()
    processes.clock.advance(SECONDS - 1)
    await two.leased.turn()
    assert await processes.log() == b"1"
    processes.clock.advance(2)
    await two.leased.turn()
    assert await processes.log() == b"12"


async def test_taken_over_with_the_holders_epoch(processes: Processes) -> None:
    one, two = await processes.start(b"1"), await processes.start(b"2")
    await one.leased.turn()
    await two.epochs.mark_expired(EXPIRY)
    for _ in range(2):
        assert await two.leased.turn() is WorkerState.IDLE, "nobody has declared it dead yet"
        processes.clock.advance(EXPIRY / 2)
        await two.epochs.beat()
        marked = await two.epochs.mark_expired(EXPIRY)
    assert marked == [one.epochs.epoch]
    await two.leased.turn()
    assert await processes.log() == b"12"


async def test_a_process_that_starts_alone_after_a_crash_does_not_wait(processes: Processes) -> None:
    one = await processes.start(b"1", alone=True)
    await one.leased.turn()
    two = await processes.start(b"2", alone=True)
    assert await two.leased.turn() is WorkerState.BUSY
    assert await processes.log() == b"12"


async def test_prolonged_while_it_works(processes: Processes) -> None:
    one, two = await processes.start(b"1"), await processes.start(b"2")
    for _ in range(10):
        await one.leased.turn()
        processes.clock.advance(SECONDS / 2)
        await two.leased.turn()
    assert await processes.log() == b"1" * 10


async def test_an_idle_holder_costs_no_commits(processes: Processes) -> None:
    one = await processes.start(b"1")
    one.worker.state = WorkerState.IDLE
    await one.leased.turn()
    before = processes.catalog.known_sequence
    for _ in range(5):
        await one.leased.turn()
    assert processes.catalog.known_sequence == before + 5, "the worker's own commits alone"


async def test_a_turn_that_was_paused_past_the_takeover_changes_nothing(processes: Processes) -> None:
    one, two = await processes.start(b"1"), await processes.start(b"2")

    async def pause() -> None:
        assert await two.leased.turn() is WorkerState.IDLE
        processes.clock.advance(SECONDS + 1)
        assert await two.leased.turn() is WorkerState.BUSY

    one.worker.pause = pause
    assert await one.leased.turn() is WorkerState.IDLE
    assert await processes.log() == b"2"
    assert one.leased.report().counters["leases_lost"] == 1
    one.worker.pause = None
    assert await one.leased.turn() is WorkerState.IDLE
    assert (await processes.log(), one.worker.standbys) == (b"2", 1)


async def test_a_long_turn_is_prolonged_and_ends_when_the_lease_is_lost(processes: Processes) -> None:
    one, two = await processes.start(b"1"), await processes.start(b"2")
    for process in (one, two):
        leases = Leases(processes.catalog, processes.clock, holder=process.epochs.holder)
        process.leased = LeasedWorker(process.worker, leases, processes.clock, seconds=0.1)
    ended: list[str] = []

    async def pause() -> None:
        for _ in range(10):
            await asyncio.sleep(0.02)
            processes.clock.advance(0.02)
            assert await two.leased.turn() is WorkerState.IDLE
        processes.clock.advance(0.11)
        assert await two.leased.turn() is WorkerState.BUSY
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    one.worker.pause = pause
    assert await asyncio.wait_for(one.leased.turn(), 10) is WorkerState.IDLE
    assert ended == ["cancelled"]
    assert await processes.log() == b"2"


async def test_a_cancelled_turn_is_cancelled_within(processes: Processes) -> None:
    one = await processes.start(b"1")
    ended = asyncio.Event()

    async def pause() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    one.worker.pause = pause
    turn = asyncio.create_task(one.leased.turn())
    await asyncio.sleep(0.01)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert ended.is_set()


async def test_failures_of_the_worker_come_through(processes: Processes) -> None:
    one = await processes.start(b"1")

    async def fail() -> None:
        raise OSError("no luck")

    one.worker.pause = fail
    with pytest.raises(OSError, match="no luck"):
        await one.leased.turn()


async def test_who_can_not_do_the_work_hands_it_over(processes: Processes) -> None:
    one, two = await processes.start(b"1"), await processes.start(b"2")
    await one.leased.turn()

    async def fail() -> None:
        raise HandOver("not here")

    one.worker.pause = fail
    with pytest.raises(HandOver, match="not here"):
        await one.leased.turn()
    await two.leased.turn()
    assert await processes.log() == b"12"


async def test_a_full_catalog_does_not_stop_who_makes_room(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await processes.start(b"1")
    await one.leased.turn()
    processes.clock.advance(SECONDS)

    async def full(self: Lease, seconds: float) -> None:
        raise CatalogFull("no space")

    monkeypatch.setattr(Lease, "renew", full)
    assert await one.leased.turn() is WorkerState.BUSY
    assert await processes.log() == b"11"


async def test_force_reaches_the_worker(processes: Processes) -> None:
    one = await processes.start(b"1")
    one.leased.force()
    assert one.worker.forced == 1


async def test_only_work_under_the_lease_is_fenced(processes: Processes) -> None:
    one, two = await processes.start(b"1"), await processes.start(b"2")
    leases = [Leases(processes.catalog, processes.clock, holder=process.epochs.holder) for process in (one, two)]
    lost = await leases[0].acquire(b"job", 1)
    assert lost is not None
    assert await leases[1].acquire(b"job", 1) is None
    processes.clock.advance(2)
    assert await leases[1].acquire(b"job", 1) is not None

    async def put(txn: Transaction) -> str:
        txn.put(b"\x10log", b"x")
        return "done"

    with fenced_by(lost):
        with pytest.raises(LeaseLost):
            await one.fenced.transact(put)
        with pytest.raises(LeaseLost):
            await asyncio.create_task(one.fenced.transact(put))
    assert await processes.log() == b""
    assert await one.fenced.transact(put) == "done"
