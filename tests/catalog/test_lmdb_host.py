"""The host's side of guest processes, which are spoken by hand or are small programs here."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from catalog.errors import CatalogClosed, CatalogFailed, CatalogMisuse
from catalog.interface import MAX_VALUE, Transaction
from catalog.lmdb_engine import catalog as engine
from catalog.lmdb_engine import wire
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.lmdb_engine.committer import Committer, Done
from catalog.lmdb_engine.folder import DATA_NAME
from catalog.lmdb_engine.repack import Repacker
from catalog.lmdb_engine.writer import Writer
from catalog.prefixes import ENGINE
from tests.catalog.conformance import A, B, C, get, put
from tests.catalog.waiting import eventually
from tests.catalog.wire_peer import Peer


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LmdbCatalog]:
    catalog = await LmdbCatalog.open(tmp_path)
    catalog.share()
    yield catalog
    await catalog.close()
    Peer.close_all()
    await asyncio.sleep(0)


async def admitted(host: LmdbCatalog) -> Peer:
    ours, theirs = socket.socketpair()
    host.admit(theirs)
    return await Peer.over(ours, wire.FromHost)


def commit(number: int, sequence: int, **more: Any) -> wire.Commit:
    given: dict[str, Any] = {"attempt": 0, "turn": False, "reads": (), "ranges": (), "writes": {A: b"1"}}
    return wire.Commit(number, sequence, **{**given, **more})


def program(source: str, folder: Path, *descriptors: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", source, str(folder), *map(str, descriptors)]
    return subprocess.Popen(command, pass_fds=descriptors, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


async def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return await asyncio.to_thread(process.stdout.readline)


async def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    await asyncio.to_thread(process.communicate)


async def test_a_shared_catalog_is_not_exclusive(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path)
    assert (catalog.exclusive, catalog.local) == (True, True)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(CatalogMisuse):
            catalog.admit(theirs)
        catalog.share()
        assert (catalog.exclusive, catalog.local) == (False, True)
        await catalog.close()
        with pytest.raises(CatalogClosed):
            catalog.admit(theirs)


async def test_a_commit_counts_only_if_what_it_read_is_as_it_was(host: LmdbCatalog) -> None:
    await put(host, (A, b"0"), (B, b"0"))
    old = host.known_sequence
    guest = await admitted(host)
    await put(host, (A, b"1"))
    now = host.known_sequence
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"sequence": old, "reads": (A,)}, False),
        ({"sequence": now, "reads": (A,)}, True),
        ({"sequence": old, "reads": (B,)}, True),
        ({"sequence": old, "ranges": ((ENGINE, A),)}, True),
        ({"sequence": old, "ranges": ((ENGINE, B),)}, False),
        ({"sequence": old - 1, "reads": (C,)}, False),  # nothing is remembered of before
        ({"sequence": 0}, True),  # it read nothing
    ]
    for number, (given, counts) in enumerate(cases):
        guest.send(commit(number, **given, writes={C: b"%d" % number}))
        answer = await guest.hear_only(wire.Durable if counts else wire.Stale)
        while counts and number not in answer.numbers:
            answer = await guest.hear_only(wire.Durable)
        assert (await get(host, C) == b"%d" % number) == counts


async def test_what_is_pending_outdates_until_it_can_be_seen(host: LmdbCatalog) -> None:
    guest = await admitted(host)
    await guest.hear_only(wire.Opened)
    await host._writer.pause()
    pending = asyncio.create_task(put(host, (A, b"pending")))
    await asyncio.sleep(0)
    guest.send(commit(1, host.known_sequence, reads=(A,)))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(guest.hear(), 0.1)
    host._writer.resume()
    assert await guest.hear_only(wire.Stale) == wire.Stale(1, False)
    assert pending.done() or await get(host, A) == b"pending"
    await pending


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\0\0\0\3abc",
        b"\0\0\0\2\x91\xa1",
        (commit(1, 0, writes={}),),
        (commit(1, 0), commit(1, 0)),
        tuple(commit(number, 0) for number in range(wire.MOST_COMMITS + 1)),
    ],
    ids=["too-long", "empty", "no-message", "cut-short", "no-writes", "number-twice", "too-many"],
)
async def test_who_does_not_keep_to_the_protocol_is_let_go(
    host: LmdbCatalog, sent: bytes | tuple[wire.Commit, ...]
) -> None:
    guest, other = await admitted(host), await admitted(host)
    await guest.hear_only(wire.Opened)
    await host._writer.pause()  # so that commits stay under way
    if isinstance(sent, bytes):
        guest.send_raw(sent)
    else:
        for message in sent:
            guest.send(message)
    assert await guest.ended()
    host._writer.resume()
    other.send(commit(1, 0, writes={B: b"2"}))
    while 1 not in (await other.hear_only(wire.Durable)).numbers:
        pass
    assert await get(host, B) == b"2"


async def test_rows_of_guests_are_held_to_the_limits(host: LmdbCatalog) -> None:
    guest = await admitted(host)
    guest.send(commit(1, 0, writes={B: b"1", A: b"v" * (MAX_VALUE + 1)}))
    refused = await guest.hear_only(wire.Refused)
    assert isinstance(wire.error_of(refused), ValueError)
    assert await get(host, B) is None


async def test_the_gate_is_for_guests_too(host: LmdbCatalog) -> None:
    guest = await admitted(host)
    await host._writer.pause()
    guest.send(commit(1, 0))
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(host.gate.close("it moves"))
    await asyncio.sleep(0.05)
    assert not closing.done()
    guest.send(commit(2, 0, writes={B: b"1"}))
    refused = await guest.hear_only(wire.Refused)
    assert (refused.numbers, refused.error, refused.text) == ([2], "CatalogMoving", "it moves")
    host._writer.resume()
    await asyncio.wait_for(closing, 5)
    assert await get(host, A) == b"1"
    assert await get(host, B) is None


async def test_a_failed_commit_is_told_in_the_catalogs_words(
    host: LmdbCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Committer, txn: Any, done: Done) -> None:
        self.abort(txn, lambda _error, _txn: done(lmdb.Error("Input/output error"), None))

    monkeypatch.setattr(Committer, "commit", failing)
    guest = await admitted(host)
    for number in (1, 2):  # the one that failed, and one after it
        guest.send(commit(number, 0))
        refused = await guest.hear_only(wire.Refused)
        assert refused.numbers == [number]
        assert isinstance(wire.error_of(refused), CatalogFailed)


async def test_a_stopped_guest_is_not_told_of_every_commit(host: LmdbCatalog) -> None:
    """It does not read: what waits for it stays bounded, and at the end it hears the newest sequence."""
    guest = await admitted(host)
    connection = next(iter(host._guests._guests))  # type: ignore[union-attr]
    connection.pause_writing()
    for i in range(5):
        await put(host, (A, b"%d" % i))
    connection.resume_writing()
    assert (await guest.hear_only(wire.Opened)).sequence < host.known_sequence
    assert (await guest.hear()).sequence == host.known_sequence


async def test_the_host_shows_what_guests_may_have_seen(host: LmdbCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit is in the file a moment before the host's event loop hears of it."""
    await put(host, (A, b"0"))
    known = host.known_sequence
    committed: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Writer, "_committed", lambda *given: committed.append(given))
    late = asyncio.create_task(put(host, (A, b"1"), (B, b"1")))

    async def heard() -> bool:
        return bool(committed)

    await eventually(heard)
    shown = await get(host, A), await host.sequence(), late.done()
    monkeypatch.undo()
    Writer._committed(*committed[0])
    await late
    assert shown == (b"1", known + 1, False)
    assert await host.sequence() == host.known_sequence == known + 1


# --- repacking ---


async def test_the_file_is_exchanged_when_all_have_let_go_and_not_opened_before(
    host: LmdbCatalog, tmp_path: Path
) -> None:
    await put(host, (A, b"1"))
    guest = await admitted(host)
    await guest.hear_only(wire.Opened)
    file = (tmp_path / DATA_NAME).stat().st_ino
    repacking = asyncio.create_task(host.repack())
    asked = await guest.hear_only(wire.LetGo)
    late = await admitted(host)  # must not open the file that is about to go
    await asyncio.sleep(0.1)
    assert (tmp_path / DATA_NAME).stat().st_ino == file
    for peer in (guest, late):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(peer.hear(), 0.05)
    guest.send(wire.Released(asked.number))
    assert await repacking
    for peer in (guest, late):
        await peer.hear_only(wire.Opened)
        assert (tmp_path / DATA_NAME).stat().st_ino != file


async def test_a_guest_that_does_not_let_go_keeps_the_file(
    host: LmdbCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_RELEASE_SECONDS", 0.2)
    guest = await admitted(host)
    await put(host, (A, b"1"))
    file = (tmp_path / DATA_NAME).stat().st_ino
    worker = Repacker(host, most_bytes=1)
    worker.force()
    await worker.turn()
    assert worker.report().counters["repacked"] == 0
    first = await guest.hear_only(wire.LetGo)
    await guest.hear_only(wire.Opened)
    await put(host, (A, b"2"))
    turn = asyncio.create_task(worker.turn())  # it is still wanted
    second = await guest.hear_only(wire.LetGo)
    guest.send(wire.Released(first.number))  # an answer that comes late is none
    await turn
    assert (tmp_path / DATA_NAME).stat().st_ino == file
    assert second.number != first.number
    await guest.hear_only(wire.Opened)
    guest.close()
    await put(host, (A, b"3"))
    assert await host.repack()
    assert await get(host, A) == b"3"


_ORPHAN = """
import sys, lmdb
env = lmdb.open(sys.argv[1], map_size=0, max_dbs=8, readonly=True)
print("open", flush=True)
sys.stdin.readline()
"""


async def test_a_process_that_was_left_behind_keeps_the_file(host: LmdbCatalog, tmp_path: Path) -> None:
    """One that outlived its host, for instance stopped: no later host knows of it."""
    await put(host, (A, b"1"))
    orphan = program(_ORPHAN, tmp_path)
    try:
        assert await line_of(orphan) == "open\n"
        assert not await host.repack()
        await put(host, (A, b"2"))
    finally:
        await end(orphan)
    assert await host.repack()
    await put(host, (B, b"3"))
    assert (await get(host, A), await get(host, B)) == (b"2", b"3")


# --- whole processes ---

_GUEST = """
import asyncio, socket, sys
from pathlib import Path
from catalog.lmdb_engine.guest import GuestCatalog
from catalog.prefixes import ENGINE

async def main():
    sock = socket.socket(fileno=int(sys.argv[2]))
    catalog = await GuestCatalog.open(Path(sys.argv[1]), sock, on_lost=lambda: None)
%s

asyncio.run(main())
"""

_VIEW = (
    _GUEST
    % """
    async with catalog.view():
        print("reading", flush=True)
        await asyncio.sleep(60)
"""
)

_INCREMENT = (
    _GUEST
    % """
    async def increment(txn):
        txn.put(ENGINE + b"a", b"%d" % (int(await txn.get(ENGINE + b"a") or b"0") + 1))
    for i in range(5):
        await catalog.transact(increment)
    print("done", flush=True)
    await catalog.close()
"""
)


async def test_a_killed_guest_holds_no_pages(host: LmdbCatalog, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    serving = host.admit(ours)
    with theirs:
        guest = program(_VIEW, tmp_path, theirs.fileno())
    assert await line_of(guest) == "reading\n"

    async def told() -> bool:
        return host.read_for_long

    await eventually(told)
    assert str(guest.pid) in host._environment.raw.readers()
    await end(guest)
    await serving
    assert not host.read_for_long

    async def cleared() -> bool:
        return str(guest.pid) not in host._environment.raw.readers()

    await eventually(cleared, seconds=3)


async def test_a_guest_gets_its_turn_at_a_row_that_the_host_writes_all_the_time(
    host: LmdbCatalog, tmp_path: Path
) -> None:
    stop = False
    own = 0

    async def increment(txn: Transaction) -> None:
        txn.put(A, b"%d" % (int(await txn.get(A) or b"0") + 1))

    async def write() -> None:
        nonlocal own
        while not stop:
            await host.transact(increment)
            own += 1

    tasks = [asyncio.create_task(write()) for _ in range(4)]
    ours, theirs = socket.socketpair()
    host.admit(ours)
    with theirs:
        guest = program(_INCREMENT, tmp_path, theirs.fileno())
    assert await line_of(guest) == "done\n"
    stop = True
    await asyncio.gather(*tasks)
    await asyncio.to_thread(guest.communicate)
    assert await get(host, A) == b"%d" % (own + 5)
