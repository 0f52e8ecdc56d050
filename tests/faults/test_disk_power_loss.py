"""An acknowledged piece survives a power cut at any instant; an unacknowledged one is whole or absent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from backends.conformance import BytesSource
from backends.disk import DiskBackend, NodeMarker, initialise, syncs, together
from backends.errors import BackendError, NotFound
from core.ids import new_piece_name
from tests.faults.lossy.folder import LossyFolder

KEY = b"a key of the deployment"
MARKER = NodeMarker(node_id=b"n" * 16, deployment_id=b"d" * 16)
SIZES = (0, 300, 70_000, 1_300_000)


class Broken(AssertionError):
    """A promise that didn't hold."""


def content(name: str, size: int) -> bytes:
    return (bytes.fromhex(name[17:]) * (size // 16 + 1))[:size]


class Witness:
    """Uses a disk and writes down what was promised, outside the reach of the power cut."""

    def __init__(self, path: Path) -> None:
        self.disk = DiskBackend(path, marker=MARKER, key=KEY, floor=0)
        self.stored: dict[str, int] = {}
        self.deleted: set[str] = set()
        self.attempted: dict[str, int] = {}

    async def whole_work(self, turns: int) -> None:
        """The same with pieces that go to disk three at a time, in one job."""
        await self.disk.open()
        for turn in range(turns):
            names = [new_piece_name(1) for _ in range(3)]
            self.attempted.update(zip(names, SIZES, strict=False))
            puts = [self.disk.put_whole(name, [content(name, self.attempted[name])], bytes(32)) for name in names]
            outcomes = await asyncio.gather(*[put for put in puts if put is not None], return_exceptions=True)
            for name, outcome in zip(names, outcomes, strict=False):
                if isinstance(outcome, bytes):
                    self.stored[name] = self.attempted[name]
                elif not isinstance(outcome, BackendError):
                    raise outcome
            if not all(isinstance(outcome, bytes) for outcome in outcomes) or len(outcomes) < 3:
                return
            if turn % 2:
                del self.stored[names[0]]
                try:
                    await self.disk.delete(names[0].encode())
                except BackendError:
                    return
                self.deleted.add(names[0])

    async def work(self, pieces: int, writers: int = 3, *, crowded: bool = False) -> None:
        """Put and delete until done or until the power goes; if `crowded`, all in one fan-out folder, by one writer
        who deletes every piece but the last: so the folder comes and goes."""
        await self.disk.open()

        async def writer(number: int) -> None:
            for turn in range(pieces):
                name = new_piece_name(1)
                if crowded:
                    name = f"{name[:17]}ab{name[19:]}"
                size = SIZES[(turn + number) % len(SIZES)]
                body = content(name, size)
                self.attempted[name] = size
                await self.disk.put(name, BytesSource(body[: size // 3], body[size // 3 :]))
                self.stored[name] = size
                if turn < pieces - 1 if crowded else turn % 3 == 2:
                    del self.stored[name]  # while a deletion is under way either is right
                    await self.disk.delete(name.encode())
                    self.deleted.add(name)

        outcomes = await asyncio.gather(
            *(writer(number) for number in range(1 if crowded else writers)), return_exceptions=True
        )
        unexpected = [one for one in outcomes if one is not None and not isinstance(one, BackendError)]
        assert not unexpected, unexpected

    async def verify(self) -> None:
        await self.disk.close()
        await self.disk.open()
        listed = {entry.name: entry.size async for entry in self.disk.list()}
        for name, size in self.stored.items():
            if listed.get(name) != size:
                raise Broken(f"an acknowledged piece of {size} bytes is {listed.get(name, 'gone')}")
        for name, size in listed.items():
            if name in self.deleted:
                raise Broken("a deleted piece came back")
            if size != self.attempted[name] or bytes(await self.disk.get(name.encode(), 0, size)) != content(
                name, size
            ):
                raise Broken("a piece that shows is not whole")
        name = new_piece_name(2)
        await self.disk.put(name, BytesSource(b"works on"))
        assert bytes(await self.disk.get(name.encode(), 0, 10)) == b"works on"
        await self.disk.delete(name.encode())


@pytest.fixture
def lossy(tmp_path: Path) -> Iterator[LossyFolder]:
    with LossyFolder(tmp_path / "disk") as folder:
        folder.mount()
        initialise(folder.path / "node", MARKER, KEY)
        yield folder


async def run(
    lossy: LossyFolder,
    instant: int,
    *,
    keep: float,
    torn: bool,
    pieces: int = 4,
    whole: bool = False,
    crowded: bool = False,
) -> Witness:
    lossy.unmount()
    lossy.mount(cut_after=instant)
    witness = Witness(lossy.path / "node")
    try:
        try:
            await (witness.whole_work(pieces) if whole else witness.work(pieces, crowded=crowded))
        except BackendError:
            assert not witness.stored  # the power went while it was opened
        lossy.cut_power(keep=keep, torn=torn, seed=instant)
        lossy.mount()
        await witness.verify()
    finally:
        await witness.disk.close()
    for file in (lossy.path / "node" / "pieces").rglob("*-*"):
        file.unlink()
    return witness


@pytest.mark.parametrize(("keep", "torn"), [(0.0, False), (0.5, True)])
async def test_acknowledged_pieces_survive_a_cut_at_any_instant(lossy: LossyFolder, keep: float, torn: bool) -> None:
    survivors = 0
    for instant in range(0, 110, 3 if keep else 2):
        survivors += len((await run(lossy, instant, keep=keep, torn=torn)).stored)
    assert survivors > 60, "the cuts must fall among acknowledged pieces"


@pytest.mark.parametrize(("keep", "torn"), [(0.0, False), (0.5, True)])
async def test_pieces_stored_together_survive_a_cut_at_any_instant(lossy: LossyFolder, keep: float, torn: bool) -> None:
    survivors = 0
    for instant in range(0, 90, 3 if keep else 2):
        survivors += len((await run(lossy, instant, keep=keep, torn=torn, whole=True)).stored)
    assert survivors > 60, "the cuts must fall among acknowledged pieces"


async def test_first_pieces_survive_in_fresh_folders(tmp_path: Path) -> None:
    """The fan-out folder of a piece must be as durable as the piece: here none exists yet."""
    for instant in range(8, 40):
        with LossyFolder(tmp_path / f"disk{instant}") as lossy:
            lossy.mount()
            initialise(lossy.path / "node", MARKER, KEY)
            await run(lossy, instant, keep=0.0, torn=False, pieces=2)


@pytest.mark.parametrize(("keep", "torn"), [(0.0, False), (0.5, True)])
async def test_a_folder_that_comes_and_goes_with_its_pieces(lossy: LossyFolder, keep: float, torn: bool) -> None:
    """Neither does a deleted piece come back with its folder, nor goes a new one with the old folder."""
    survivors = deleted = 0
    for instant in range(4, 60, 2):
        witness = await run(lossy, instant, keep=keep, torn=torn, pieces=3, crowded=True)
        survivors += len(witness.stored)
        deleted += len(witness.deleted)
    assert survivors > 3
    assert deleted > 20


async def test_without_a_rename_that_never_replaces(tmp_path: Path) -> None:
    with LossyFolder(tmp_path / "disk", rename_noreplace=False) as lossy:
        lossy.mount()
        initialise(lossy.path / "node", MARKER, KEY)
        for instant in range(0, 110, 5):
            await run(lossy, instant, keep=0.3, torn=False)


@pytest.mark.parametrize(
    ("sabotage", "promise"),
    [
        ("os.fdatasync", "an acknowledged piece|not whole"),
        ("backends.disk.place.Place.sync_pieces", "an acknowledged piece|came back"),
        ("backends.disk.place.Place.ensure_folder", "an acknowledged piece"),
    ],
)
async def test_a_disk_that_skips_a_sync_is_caught(
    lossy: LossyFolder, monkeypatch: pytest.MonkeyPatch, sabotage: str, promise: str
) -> None:
    def make_folder_without_sync(place: object, folder: str) -> None:
        root = place.root  # type: ignore[attr-defined]
        if folder not in os.listdir(f"/proc/self/fd/{root}/pieces"):  # noqa: PTH208
            os.mkdir(f"pieces/{folder}", 0o700, dir_fd=root)

    monkeypatch.setattr(sabotage, make_folder_without_sync if "ensure_folder" in sabotage else lambda *arguments: None)

    async def cut_often() -> None:
        for instant in range(20, 100, 10):
            await run(lossy, instant, keep=0.0, torn=False)

    with pytest.raises(Broken, match=promise):
        await cut_often()


@pytest.mark.parametrize(
    ("left_out", "promise"), [("files", "an acknowledged piece|not whole"), ("folders", "an acknowledged piece")]
)
async def test_a_sync_that_is_skipped_for_pieces_stored_together_is_caught(
    lossy: LossyFolder, monkeypatch: pytest.MonkeyPatch, left_out: str, promise: str
) -> None:
    def careless(descriptors: Sequence[int], *, data_only: bool) -> list[OSError | None]:
        if data_only is (left_out == "files"):
            return [None] * len(descriptors)
        return syncs.sync_all(descriptors, data_only=data_only)

    monkeypatch.setattr(together, "sync_all", careless)

    async def cut_often() -> None:
        for instant in range(20, 90, 10):
            await run(lossy, instant, keep=0.0, torn=False, whole=True)

    with pytest.raises(Broken, match=promise):
        await cut_often()


async def test_initialised_means_durable(tmp_path: Path) -> None:
    """Either the node is there whole, or initialising again makes it; never something in between that is refused."""
    for instant in range(16):
        with LossyFolder(tmp_path / f"disk{instant}") as lossy:
            lossy.mount(cut_after=instant)
            done = False
            try:
                initialise(lossy.path / "node", MARKER, KEY)
                done = True
            except (BackendError, OSError):
                pass
            lossy.cut_power(keep=0.4 if instant % 2 else 0.0, seed=instant)
            lossy.mount()
            if not done:
                initialise(lossy.path / "node", MARKER, KEY)
            disk = DiskBackend(lossy.path / "node", marker=MARKER, key=KEY, floor=0)
            await disk.open()
            with pytest.raises(NotFound):
                await disk.stat(new_piece_name(1).encode())
            await disk.close()


async def test_power_cut_from_outside_while_busy(lossy: LossyFolder) -> None:
    """The other way round: not before a chosen change, but at a moment of its own, with everything concurrent."""
    for turn in range(4):
        lossy.unmount()
        lossy.mount()
        witness = Witness(lossy.path / "node")
        work = asyncio.ensure_future(witness.work(50, writers=8))
        async with asyncio.timeout(30):
            while not witness.attempted:  # noqa: ASYNC110 - the witness is watched, not asked
                await asyncio.sleep(0.005)
        await asyncio.sleep(turn * 0.04)
        await asyncio.to_thread(lossy.cut_power, keep=0.2, torn=True, seed=turn)
        await asyncio.gather(work, return_exceptions=True)
        lossy.mount()
        try:
            await witness.verify()
        finally:
            await witness.disk.close()
        assert witness.attempted
        for file in (lossy.path / "node" / "pieces").rglob("*-*"):
            file.unlink()
