"""Chains with holes, forged shards, old ones put back, nodes that are not heard: a restore takes what is whole, and
says what is not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from backends.memory import MemoryBackend
from catalog.memory import MemoryCatalog
from core.errors import StartRefused
from engine.snapshots.keys import ShardName
from engine.snapshots.parts import HEADER_LENGTH
from engine.snapshots.restore import NothingToRestore, restore_folder
from tests.snapshots.world import DEPLOYMENT, ROOT, SnapshotWorld, keys_of

KEYS = keys_of(ROOT)
POINTS = 5

Which = Callable[[ShardName], bool]


class Chain:
    """A world with a base and some points; `states[i]` are the rows as of part i + 1."""

    def __init__(self, world: SnapshotWorld) -> None:
        self.world = world
        self.states: list[dict[bytes, bytes]] = []

    async def grow(self) -> Chain:
        await self.world.change(100)
        await self.world.settle()
        self.states.append(dict(self.world.rows))
        for _ in range(POINTS - 1):
            await self.world.change(5)
            await self.world.settle()
            self.states.append(dict(self.world.rows))
        return self

    def backend(self, node: int) -> MemoryBackend:
        backend = self.world.backends[node - 1]
        assert isinstance(backend, MemoryBackend)
        return backend

    def shards(self, which: Which) -> list[tuple[int, str]]:
        """(node, piece name) of the shards that `which` picks."""
        found = []
        for node in range(1, 7):
            for text in self.backend(node)._pieces:
                name = KEYS.read_name(text)
                if name is not None and which(name):
                    found.append((node, text))
        return found

    def remove(self, which: Which, *, keep: int = 0) -> None:
        for node, text in self.shards(which)[keep:]:
            del self.backend(node)._pieces[text]

    def alter(self, which: Which, function: Callable[[bytes], bytes], *, keep: int = 0) -> int:
        chosen = self.shards(which)[keep:]
        for node, text in chosen:
            pieces = self.backend(node)._pieces
            pieces[text] = function(pieces[text])
        return len(chosen)


@pytest.fixture
async def chain() -> AsyncIterator[Chain]:
    catalog = MemoryCatalog()
    yield await Chain(await SnapshotWorld(catalog).open()).grow()
    await catalog.close()


def flip_body(data: bytes) -> bytes:
    return data[:HEADER_LENGTH] + bytes((data[HEADER_LENGTH] ^ 1,)) + data[HEADER_LENGTH + 1 :]


def flip_header(data: bytes) -> bytes:
    return data[:20] + bytes((data[20] ^ 1,)) + data[21:]


async def test_the_chain_is_as_the_tests_think(chain: Chain, tmp_path: Path) -> None:
    state = await chain.world.state()
    assert state.active is not None
    assert state.active.parts == POINTS + 1  # a base of one part, then a point each
    assert len(chain.shards(lambda name: name.part == 2)) == 3
    _, rows = await chain.world.restore(tmp_path / "restored")
    assert rows == chain.states[-1]


@pytest.mark.parametrize("part", [2, 3, 4])
async def test_a_hole_ends_the_chain_before_it(chain: Chain, tmp_path: Path, part: int) -> None:
    chain.remove(lambda name: name.part == part)
    told, rows = await chain.world.restore(tmp_path / "restored")
    assert rows == chain.states[part - 2]
    assert told.parts == part
    assert any(f"has a hole: part {part} of {POINTS + 1} is missing" in warning for warning in told.warnings)
    assert any("newer was begun, but it is not whole" in warning for warning in told.warnings)


async def test_a_hole_in_the_base_leaves_nothing(chain: Chain, tmp_path: Path) -> None:
    chain.remove(lambda name: name.part == 0)
    with pytest.raises(NothingToRestore, match="has a hole: part 0 of 6 is missing on all nodes that answered"):
        await chain.world.restore(tmp_path / "restored")
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@pytest.mark.parametrize("forge", [flip_body, flip_header, lambda data: data[:-1], lambda data: data + b"x"])
async def test_forged_shards_up_to_m_are_named_and_do_no_harm(
    chain: Chain, tmp_path: Path, forge: Callable[[bytes], bytes]
) -> None:
    assert chain.alter(lambda name: name.part == 3, forge, keep=1) == 2
    told, rows = await chain.world.restore(tmp_path / "restored")
    assert rows == chain.states[-1]
    named = [warning for warning in told.warnings if "node node-" in warning]
    assert forge is flip_body or len(named) == 2  # a body that was not needed is not read


@pytest.mark.parametrize("forge", [flip_body, flip_header, lambda data: data[:HEADER_LENGTH], lambda data: b""])
async def test_a_forged_part_ends_the_chain_before_it(
    chain: Chain, tmp_path: Path, forge: Callable[[bytes], bytes]
) -> None:
    chain.alter(lambda name: name.part == 3, forge)
    told, rows = await chain.world.restore(tmp_path / "restored")
    assert rows == chain.states[1]
    assert any("forged" in warning or "cut short" in warning or "no header" in warning for warning in told.warnings)


async def test_an_old_part_in_a_newer_ones_place_is_refused(chain: Chain, tmp_path: Path) -> None:
    old = {name.index: self_data(chain, text, node) for node, text in chain.shards(lambda name: name.part == 2)
           if (name := KEYS.read_name(text)) is not None}  # fmt: skip
    for node, text in chain.shards(lambda name: name.part == POINTS):
        name = KEYS.read_name(text)
        assert name is not None
        chain.backend(node)._pieces[text] = old[name.index]
    told, rows = await chain.world.restore(tmp_path / "restored")
    assert rows == chain.states[-2]
    assert any("of another place" in warning for warning in told.warnings)


def self_data(chain: Chain, text: str, node: int) -> bytes:
    return chain.backend(node)._pieces[text]


async def test_nodes_with_old_snapshots_only_do_not_hide_a_newer_one(chain: Chain, tmp_path: Path) -> None:
    tip = {node for node, _ in chain.shards(lambda name: name.part == POINTS)}
    lagging = sorted(tip)[:2]
    for node in lagging:
        chain.backend(node)._pieces = {
            text: data
            for text, data in chain.backend(node)._pieces.items()
            if (name := KEYS.read_name(text)) is not None and name.part < 3
        }
    told, rows = await chain.world.restore(tmp_path / "restored")
    assert rows in (chain.states[-1], *chain.states[1:-1])
    if rows != chain.states[-1]:
        assert any("hole" in warning for warning in told.warnings)


async def test_a_state_that_is_too_old_is_refused_on_demand(chain: Chain, tmp_path: Path) -> None:
    state = await chain.world.state()
    assert state.active is not None
    chain.remove(lambda name: name.part >= 3)  # all nodes agree on an old state
    sources = chain.world.sources()
    with pytest.raises(NothingToRestore, match="too old"):
        await restore_folder(sources, KEYS, DEPLOYMENT, tmp_path / "r", earliest_us=state.active.time_us)
    told = await restore_folder(sources, KEYS, DEPLOYMENT, tmp_path / "r")
    assert told.facts.time_us < state.active.time_us


async def test_an_old_chain_that_was_put_back_loses_to_the_newer_one(tmp_path: Path) -> None:
    catalog = MemoryCatalog()
    chain = await Chain(await SnapshotWorld(catalog).open()).grow()
    saved = [dict(chain.backend(node)._pieces) for node in range(1, 7)]
    chain.world.root = bytes(range(1, 33))  # a rotation makes a new chain…
    await chain.world.change()
    await chain.world.settle()
    chain.world.root = ROOT  # …and so does one back
    await chain.world.change()
    await chain.world.settle()
    for node, pieces in enumerate(saved, 1):
        chain.backend(node)._pieces.update(pieces)
    told, rows = await chain.world.restore(tmp_path / "restored")
    assert rows == chain.world.rows
    assert told.chain == (await chain.world.state()).last_chain
    await catalog.close()


async def test_nodes_that_are_not_heard_are_told_of(chain: Chain, tmp_path: Path) -> None:
    for node in (2, 5):
        await chain.backend(node).close()
    told, rows = await chain.world.restore(tmp_path / "restored")
    assert rows == chain.states[-1]
    (warning,) = told.warnings
    assert warning.startswith("a newer point could be on nodes that were not heard: node-2 (")
    assert "node-5" in warning


async def test_no_node_at_all(chain: Chain, tmp_path: Path) -> None:
    for node in range(1, 7):
        await chain.backend(node).close()
    with pytest.raises(NothingToRestore, match=r"no node answers \(node-1: the backend is not open"):
        await chain.world.restore(tmp_path / "restored")


async def test_shards_of_another_deployment_are_refused(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(NothingToRestore, match="forged, damaged, or of another place") as refusal:
        await restore_folder(chain.world.sources(), KEYS, b"e" * 16, tmp_path / "restored")
    assert isinstance(refusal.value, StartRefused)


async def test_names_that_nobody_made_do_no_harm(chain: Chain, tmp_path: Path) -> None:
    for number in range(20):
        junk = KEYS.prefix + number.to_bytes(16, "big").hex()
        chain.backend(1)._pieces[junk] = b"junk" * number
    told, rows = await chain.world.restore(tmp_path / "restored")
    assert rows == chain.states[-1]
    assert len([warning for warning in told.warnings if "node-1" in warning]) == 20
