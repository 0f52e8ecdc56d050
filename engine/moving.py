"""Moving bodies into a new pack, as compaction does. Copies sealed bytes, needs no keys.

First the pack is written and brought to life with a row, then each body's row is pointed there by compare-and-set: if
it still says what the mover saw and the body is alive. Killed between, nothing is lost: the rows tell where each body
is, and members that nothing points to are dead ones to compaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from catalog.errors import IN_DOUBT
from catalog.interface import Transaction
from engine.bodies.store import BodyStore
from engine.layout_data import ALIVE, BODY, PACK, PACK_DEAD
from engine.packs import put_pack, write_pack
from engine.records_data import BODY_ROW, BodyRow, PackRow

#: Bodies that one transaction moves at most.
CHUNK = 256


class Move(msgspec.Struct, frozen=True):
    """One body. `is_there` judges its present row: whether it is still where the mover found it."""

    body_id: bytes
    sealed: memoryview
    is_there: Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class NewPack:
    """A pack that is alive and that its members' rows do not point to yet."""

    id: bytes
    places: tuple[tuple[int, int], ...]  # (offset, length), in the order of the moves


async def bear_pack(
    bodies: BodyStore, storage_class: str, moves: Sequence[Move], *, written: Callable[[], None]
) -> NewPack:
    """Write the bodies' bytes as one pack and commit its rows; `written` is called between. Raises Unavailable and
    StorageFull when nodes don't take it, and what the catalog raises: the pack's pieces are dropped then, unless the
    commit is in doubt."""
    segment = await write_pack(bodies.write_tools, bodies.classes.get(storage_class), [move.sealed for move in moves])
    written()
    row = PackRow(
        bodies=b"".join(move.body_id for move in moves),
        lengths=tuple(move.sealed.nbytes for move in moves),
        epoch=bodies.epochs.epoch,
    )

    async def bear(txn: Transaction) -> None:
        await bodies.epochs.guard(txn)
        put_pack(txn, segment, row)

    try:
        await bodies.catalog.transact(bear)
    except IN_DOUBT:
        raise
    except Exception:
        bodies.write_tools.drop(segment.row)
        raise
    return NewPack(segment.id, tuple((offset, length) for _, offset, length in row.members()))


async def no_pause() -> None:
    """For a mover that is in nobody's way."""


async def point_there(
    bodies: BodyStore, pack: NewPack, moves: Sequence[Move], breathe: Callable[[], Awaitable[None]] = no_pause
) -> int:
    """Point the bodies to their new places; how many moved. What lost its body meanwhile is dead on arrival. Nothing
    happens where another gateway has seen the pack while nothing pointed into it yet, and retired it. `breathe` is
    awaited before each transaction."""
    moved = 0
    for start in range(0, len(moves), CHUNK):
        await breathe()
        moved += await _point(bodies, pack.id, list(zip(moves, pack.places, strict=True))[start : start + CHUNK])
    return moved


async def _point(bodies: BodyStore, pack_id: bytes, chunk: Sequence[tuple[Move, tuple[int, int]]]) -> int:
    async def point(txn: Transaction) -> list[tuple[bytes, BodyRow]]:
        await bodies.epochs.guard(txn)
        if await txn.get(PACK + pack_id) is None:
            return []
        rows = await txn.get_many([BODY + move.body_id for move, _ in chunk])
        alive = await txn.get_many([ALIVE + move.body_id for move, _ in chunk])
        moved = []
        for (move, (offset, length)), row, mark in zip(chunk, rows, alive, strict=True):
            if mark is not None and row is not None and move.is_there(row):
                new = BodyRow(slice=(pack_id, offset, length))
                txn.put(BODY + move.body_id, BODY_ROW.encode(new))
                moved.append((move.body_id, new))
            else:
                txn.put(PACK_DEAD + pack_id + move.body_id, length.to_bytes(4, "big"))
        return moved

    moved = await bodies.catalog.transact(point)
    for body_id, row in moved:
        bodies.locations.put(body_id, row)
    return len(moved)
