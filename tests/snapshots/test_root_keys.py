"""A rotation of the root key: each chain opens with the key in force while it was written, and holds nothing later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catalog.interface import Catalog, Transaction
from catalog.leased_worker import LeasedWorker
from catalog.leases import Leases
from catalog.memory import MemoryCatalog
from engine.keyring import LocalKeyWrapper
from engine.layout_data import ROOT as ROOT_KEY
from engine.records_data import ROOT_ROW, RootRow
from engine.snapshots.capture import Changes, changes_since
from engine.snapshots.chains import FormerRootKey
from engine.snapshots.restore import NothingToRestore
from tests.snapshots.world import ROOT, SnapshotWorld, names_on

NEW = bytes(range(1, 33))


async def put_in_force(catalog: Catalog, root: bytes) -> None:
    row = ROOT_ROW.encode(RootRow(key_id=LocalKeyWrapper(root).key_id, check=b"c"))

    async def put(txn: Transaction) -> None:
        txn.put(ROOT_KEY, row)

    await catalog.transact(put)


async def test_after_a_rotation_the_new_key_alone_restores(tmp_path: Path) -> None:
    world = await SnapshotWorld(MemoryCatalog()).open()
    await put_in_force(world.catalog, ROOT)
    await world.change()
    await world.settle()
    await put_in_force(world.catalog, NEW)
    world.root = NEW
    await world.worker.turn()
    with pytest.raises(NothingToRestore, match="the first one is not whole yet"):
        await world.restore(tmp_path / "too-soon", root=NEW)
    assert (await world.restore(tmp_path / "former"))[1], "until then the former key does"
    await world.change()
    await world.settle()
    _, rows = await world.restore(tmp_path / "restored", root=NEW)
    assert {key: rows[key] for key in world.rows} == world.rows


async def test_a_process_with_the_former_key_writes_nothing() -> None:
    world = await SnapshotWorld(MemoryCatalog()).open()
    await put_in_force(world.catalog, NEW)
    await world.change()
    with pytest.raises(FormerRootKey, match="is in force"):
        await world.settle()
    assert names_on(world) == set()


async def test_a_rotation_between_reading_and_writing_ends_the_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await SnapshotWorld(MemoryCatalog()).open()
    await put_in_force(world.catalog, ROOT)
    await world.change()
    await world.settle()
    before = dict(world.rows)

    async def rotated_meanwhile(catalog: Catalog, position: int, **options: Any) -> Changes:
        changes = await changes_since(catalog, position, **options)
        await put_in_force(catalog, NEW)
        return changes

    await world.change()
    monkeypatch.setattr("engine.snapshots.chains.changes_since", rotated_meanwhile)
    with pytest.raises(FormerRootKey):
        await world.settle()
    _, rows = await world.restore(tmp_path / "restored")
    assert {key: rows[key] for key in before} == before


async def test_another_gateway_takes_over_from_one_with_the_former_key(tmp_path: Path) -> None:
    catalog = MemoryCatalog()
    former = await SnapshotWorld(catalog).open()
    other = SnapshotWorld(catalog, backends=former.backends)
    await put_in_force(catalog, ROOT)
    workers = [
        LeasedWorker(world.worker, Leases(catalog, world.clock, holder=holder), world.clock)
        for world, holder in ((former, b"1"), (other, b"2"))
    ]
    await former.change()
    await workers[0].turn()
    assert names_on(former), "the first gateway has the lease"
    await workers[1].turn()
    await put_in_force(catalog, NEW)
    other.root = NEW
    with pytest.raises(FormerRootKey):
        await workers[0].turn()
    for _ in range(20):
        await workers[1].turn()
    _, rows = await other.restore(tmp_path / "restored", root=NEW)
    assert {key: rows[key] for key in former.rows} == former.rows
    await workers[0].turn()  # the lease is the other's: it stands by
    assert former.worker.freshness.exists
