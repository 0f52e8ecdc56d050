"""A guest of an LMDB catalog, with a host that is spoken by hand or is another process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from catalog.errors import (
    CatalogClosed,
    CatalogFull,
    CatalogMisuse,
    CatalogMoving,
    CommitUnknown,
    Conflict,
    FutureVersion,
)
from catalog.interface import Reader, Transaction
from catalog.keys import u64
from catalog.lmdb_engine import environment, wire
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.lmdb_engine.guest import GuestCatalog
from catalog.prefixes import ENGINE
from tests.catalog.conformance import A, B, C, get, put, scan
from tests.catalog.lmdb_host import HostProcess
from tests.catalog.wire_peer import Peer

pytestmark = pytest.mark.xdist_group("lmdb-guest")


class World:
    """A guest, and the other end of its connection."""

    def __init__(self, guest: GuestCatalog, host: Peer, lost: list[None]) -> None:
        self.guest, self.host, self.lost = guest, host, lost

    async def commit(self) -> wire.Commit:
        message = await self.host.hear_only(wire.Commit)
        assert isinstance(message, wire.Commit)
        return message


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    owner = await LmdbCatalog.open(tmp_path)
    await put(owner, (A, b"0"), (B, b"0"))
    await owner.close()
    return tmp_path


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[World]:
    ours, theirs = socket.socketpair()
    host = await Peer.over(ours, wire.FromGuest)
    lost: list[None] = []
    opening = asyncio.create_task(GuestCatalog.open(folder, theirs, on_lost=lambda: lost.append(None)))
    await asyncio.sleep(0.02)
    assert not opening.done(), "opened before it was allowed"
    host.send(wire.Opened(wire.VERSION, 1))
    yield World(await opening, host, lost)
    Peer.close_all()
    await (await opening).close()
    await asyncio.sleep(0)


async def increment(txn: Transaction, key: bytes = A) -> int:
    value = int(await txn.get(key) or b"0") + 1
    txn.put(key, b"%d" % value)
    return value


async def test_it_sends_what_was_read_and_written(world: World) -> None:
    async def work(txn: Transaction) -> None:
        txn.put(C, b"3")
        await txn.get(C)  # its own: not read of the catalog
        await txn.get_many([A, b"\x10none"])
        await txn.scan(A, C, limit=1)
        await txn.scan(A, C, limit=1, reverse=True)
        await txn.scan(A, C, limit=9)
        await txn.scan(A, C, limit=0)
        txn.delete(A)
        await txn.scan(A, b"\x11", limit=2)

    task = asyncio.create_task(world.guest.transact(work))
    commit = await world.commit()
    assert set(commit.reads) == {A, b"\x10none"}
    assert [tuple(covered) for covered in commit.ranges] == [(A, A + b"\0"), (B, C), (A, C), (A, C + b"\0")]
    assert commit.writes == {C: b"3", A: None}
    assert (commit.sequence, commit.attempt, commit.turn) == (1, 0, False)
    world.host.send(wire.Durable(2, (commit.number,)))
    await task
    assert world.guest.known_sequence == 2


async def test_nothing_written_needs_no_host(world: World) -> None:
    assert await world.guest.transact(lambda txn: txn.get(A)) == b"0"

    async def fail(txn: Transaction) -> None:
        txn.put(A, b"1")
        raise LookupError

    with pytest.raises(LookupError):
        await world.guest.transact(fail)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.host.hear(), 0.05)


async def test_a_stale_transaction_runs_again_and_takes_its_turn(world: World) -> None:
    runs = 0

    async def work(txn: Transaction) -> None:
        nonlocal runs
        runs += 1
        await increment(txn)

    task = asyncio.create_task(world.guest.transact(work))
    for attempt in range(5):
        commit = await world.commit()
        assert (commit.attempt, commit.turn) == (attempt, attempt == 4)
        world.host.send(wire.Stale(commit.number, attempt == 3))
    commit = await world.commit()
    assert not commit.turn
    world.host.send(wire.Durable(2, (commit.number,)))
    await task
    assert runs == 6


async def test_a_turn_that_is_not_needed_is_given_back(world: World) -> None:
    fails = False

    async def work(txn: Transaction) -> None:
        await increment(txn)
        if fails:
            raise LookupError

    task = asyncio.create_task(world.guest.transact(work))
    for attempt in range(4):
        commit = await world.commit()
        fails = attempt == 3
        world.host.send(wire.Stale(commit.number, fails))
    await world.host.hear_only(wire.TurnUnused)
    with pytest.raises(LookupError):
        await task


async def test_outdated_for_ever_it_gives_up(world: World) -> None:
    task = asyncio.create_task(world.guest.transact(increment))
    while not task.done():
        try:
            world.host.send(wire.Stale((await asyncio.wait_for(world.commit(), 0.5)).number, False))
        except TimeoutError:
            break
    with pytest.raises(Conflict):
        await task


@pytest.mark.parametrize("error", [CatalogFull("full"), CatalogMoving("it moves"), CatalogClosed("closed")], ids=repr)
async def test_refusals_are_raised(world: World, error: Exception) -> None:
    task = asyncio.create_task(world.guest.transact(increment))
    world.host.send(wire.refusal([(await world.commit()).number], error))
    with pytest.raises(type(error), match=str(error)):
        await task


async def test_cancellation_is_held_back_until_the_answer(world: World) -> None:
    after: list[str] = []

    async def caller() -> None:
        after.append(str(await world.guest.transact(increment)))
        await asyncio.sleep(0)
        after.append("not reached")

    task = asyncio.create_task(caller())
    commit = await world.commit()
    task.cancel()
    await asyncio.sleep(0.02)
    assert not task.done()
    world.host.send(wire.Durable(2, (commit.number,)))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert after == ["1"]


async def test_a_lost_host_leaves_commits_in_doubt_and_the_catalog_closed(world: World) -> None:
    guest = world.guest
    waiting = asyncio.create_task(guest.wait_changes(100))
    under_way = [asyncio.create_task(guest.transact(partial(increment, key=key))) for key in (A, B)]
    await world.commit()
    world.host.close()
    results = await asyncio.gather(*under_way, waiting, return_exceptions=True)
    assert [type(result) for result in results] == [CommitUnknown, CommitUnknown, CatalogClosed]
    for call in (guest.transact(increment), get(guest, A), guest.sequence(), guest.wait_changes(100)):
        with pytest.raises(CatalogClosed):
            await call
    with pytest.raises(CatalogClosed):
        await guest.read(lambda reader: reader.get(A), long=True)
    assert world.lost == [None]


async def test_a_farewell_says_that_nothing_is_in_doubt(world: World) -> None:
    task = asyncio.create_task(world.guest.transact(increment))
    await world.commit()
    world.host.send(wire.Farewell())
    with pytest.raises(CatalogClosed):
        await task
    assert world.lost == [None]


@pytest.mark.parametrize("sent", [b"\xff\xff\xff\xff", b"\0\0\0\3abc"], ids=["too-long", "no-message"])
async def test_a_host_that_does_not_keep_to_the_protocol_is_lost(world: World, sent: bytes) -> None:
    world.host.send_raw(sent)
    assert await world.host.ended()
    assert world.lost == [None]


async def test_what_is_under_way_is_bounded(world: World) -> None:
    tasks = [asyncio.create_task(put(world.guest, (ENGINE + u64(i), b""))) for i in range(400)]
    numbers: list[int] = []
    answered = 0
    while answered < 400:
        try:
            numbers.append((await asyncio.wait_for(world.commit(), 0.5)).number)
        except TimeoutError:
            assert answered + len(numbers) in (wire.MOST_COMMITS - 1, 400)
            assert len(numbers) < wire.MOST_COMMITS
            world.host.send(wire.Durable(2 + answered, numbers))
            answered += len(numbers)
            numbers = []
    await asyncio.gather(*tasks)


async def test_one_that_is_too_large_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MOST_BYTES", 1 << 20)
    with pytest.raises(ValueError, match="transaction"):
        await put(world.guest, *[(ENGINE + u64(i), bytes(1 << 18)) for i in range(4)])


async def test_reads_wait_while_the_file_is_let_go(world: World, folder: Path) -> None:
    """And what they then read is the file that is there by then."""
    guest, host = world.guest, world.host
    export = guest.export()
    await anext(export)
    host.send(wire.LetGo(7))
    await host.hear_only(wire.ReadingLong)
    await asyncio.sleep(0.02)
    assert await get(guest, A) == b"0"  # until the long read has ended
    late = asyncio.create_task(guest.read(lambda reader: reader.get(A), long=True))
    await export.aclose()
    assert (await host.hear_only(wire.Released)).number == 7
    reads: list[asyncio.Task[Any]] = [late]
    reads += [asyncio.create_task(call) for call in (get(guest, A), guest.sequence(), guest.transact(increment))]
    owner = await LmdbCatalog.open(folder)  # nobody else maps it: this would be an error in this process
    await put(owner, (A, b"5"))
    assert await owner.repack()
    await owner.close()
    assert not any(read.done() for read in reads)
    host.send(wire.Opened(wire.VERSION, 2))
    commit = await world.commit()
    assert commit.sequence == 2
    host.send(wire.Durable(3, (commit.number,)))
    assert await asyncio.gather(*reads) == [b"5", b"5", 2, 6]


async def test_a_glance_sees_what_a_read_sees_or_nothing(world: World, folder: Path) -> None:
    guest, host = world.guest, world.host
    assert guest.glance((B, A, C, b"\x10" * 2000)) == [b"0", b"0", None, None]
    host.send(wire.LetGo(3))
    assert (await host.hear_only(wire.Released)).number == 3
    assert guest.glance((A,)) is None
    owner = await LmdbCatalog.open(folder)
    await put(owner, (A, b"5"), (b"\x10" * 2000, b"6"))
    await owner.close()
    host.send(wire.Opened(wire.VERSION, 2))
    assert await get(guest, A) == b"5"
    assert guest.glance((b"\x10" * 2000, A)) == [b"6", b"5"]
    assert guest.glance(()) == []
    await guest.close()
    assert guest.glance((A,)) is None


async def test_a_wish_that_is_withdrawn_changes_nothing(world: World) -> None:
    async with world.guest.view() as view:
        world.host.send(wire.LetGo(1))
        await asyncio.sleep(0.02)
        late = asyncio.create_task(world.guest.read(lambda reader: reader.get(A), long=True))
        await asyncio.sleep(0.02)
        assert not late.done()
        world.host.send(wire.Opened(wire.VERSION, 1))
        assert await late == b"0"
        assert await view.get(A) == b"0"
    world.host.send(wire.LetGo(2))
    assert (await world.host.hear_only(wire.Released)).number == 2


async def test_a_file_of_a_newer_program_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "FORMAT", 0)
    ours, theirs = socket.socketpair()
    host = await Peer.over(ours, wire.FromGuest)
    host.send(wire.Opened(wire.VERSION, 1))
    with pytest.raises(FutureVersion):
        await GuestCatalog.open(folder, theirs, on_lost=lambda: None)
    Peer.close_all()
    await asyncio.sleep(0.01)


async def test_a_host_that_is_gone_at_once_is_an_error(folder: Path) -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with pytest.raises(CatalogClosed):
        await GuestCatalog.open(folder, theirs, on_lost=lambda: None)
    await asyncio.sleep(0.01)


# --- with a real host ---


@pytest.fixture(scope="module")
def process() -> Iterator[HostProcess]:
    process = HostProcess()
    yield process
    process.stop()


async def test_the_map_grows_under_a_guest_but_not_under_its_long_reads(tmp_path: Path, process: HostProcess) -> None:
    connection, ended = process.own(tmp_path, busy=False, map_size=1 << 20)
    guest = await GuestCatalog.open(tmp_path, connection, on_lost=lambda: None)
    await put(guest, *[(ENGINE + u64(i), b"v" * 100) for i in range(1500)])
    export = guest.export()
    first = await anext(export)
    await put(guest, *[(b"\x20" + u64(i), b"v" * 900) for i in range(3000)])
    before = guest.known_sequence
    assert guest.glance((b"\x20" + u64(5),)) is None
    reads = [
        asyncio.create_task(get(guest, b"\x20" + u64(5))),
        asyncio.create_task(guest.read(lambda reader: reader.get(b"\x20" + u64(6)), long=True)),
    ]
    await asyncio.sleep(0.1)
    assert not any(read.done() for read in reads), "read beyond its map"
    rest = [row async for run in export for row in run]
    assert len(first) + len(rest) == 1500 + 1
    assert await asyncio.gather(*reads) == [b"v" * 900] * 2
    assert await guest.sequence() == before
    await put(guest, *[(b"\x20" + u64(i), b"w" * 2000) for i in range(3000)])
    assert len(await scan(guest, b"\x20", b"\x21")) == 3000
    await guest.close()
    ended.close()


async def test_commits_of_the_host_are_heard_and_seen(tmp_path: Path, process: HostProcess) -> None:
    connection, ended = process.own(tmp_path, busy=True)
    guest = await GuestCatalog.open(tmp_path, connection, on_lost=lambda: None)
    known = guest.known_sequence
    for _ in range(20):
        newer = await asyncio.wait_for(guest.wait_changes(known), 5)
        assert newer > known
        known = newer
        (glanced,) = guest.glance((b"\x01turn",)) or (None,)
        assert int.from_bytes(glanced or b"", "big") >= known

        async def shown(reader: Reader) -> int:
            return int.from_bytes(await reader.get(b"\x01turn") or b"", "big")

        turn = await guest.read(shown)
        assert turn >= known, "a snapshot that does not show what is known"
        assert await guest.sequence() >= turn
    with pytest.raises(CatalogMisuse):
        await guest.load([(A, b"")], sequence=1)
    await guest.close()
    with pytest.raises(CatalogClosed):
        await get(guest, A)
    ended.close()
