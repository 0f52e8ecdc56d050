"""Rebuilding pieces of one segment onto nodes, and recoding a narrow segment to its class's full scheme. No keys.

Both end by swapping the segment's row by compare-and-set on its generation; the old pieces go to the deletion queue
and live until every reader that may know them has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from backends.errors import BackendError
from catalog.errors import IN_DOUBT
from catalog.interface import Reader, Transaction
from core.buffers import Buffer
from engine.bodies.store import BodyStore
from engine.errors import Damaged, Unavailable
from engine.layout_data import QUEUE_PIECE, SEGMENT, SHORT, SUSPECT, parse_suspect_key, prefix_end
from engine.ports import Node
from engine.records_data import SEGMENT_ROW, SUSPECT_ROW, PieceRow, SegmentRow
from engine.segments.proof import VerifiedSegment
from engine.segments.registry import Segment
from engine.segments.write import PieceStream, SegmentWriter, choose_target, piece_name
from erasure.rebuild import Rebuilder
from erasure.stripe import Stripe, code_stripe

_QUEUE = 3


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """What a rebuild came to. `missing` pieces found no node to go to."""

    rebuilt: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    gone: bool = False  # the segment is no more, or was changed meanwhile


async def rebuild_segment(bodies: BodyStore, segment_id: bytes, *, also: Sequence[int] = ()) -> RebuildResult:
    """Make the pieces anew that were never written, are suspect, or are named by `also`, and swap the placement.

    A piece goes to a node that holds no other piece of the segment; its old node will do if it is up. Raises
    Unavailable or Damaged when too few sound shards can be read.
    """
    segment = await bodies.registry.get(segment_id, fresh=True)
    if segment is None:
        await _settle_rows(bodies, segment_id)
        return RebuildResult(gone=True)
    bad = {index for index, piece in enumerate(segment.row.pieces) if not piece.node}
    bad |= {index for index, _ in bodies.registry.suspicions(segment_id)} | set(also)
    bad |= await bodies.catalog.read(lambda reader: _suspected(reader, segment_id))
    if not bad:
        await _settle_rows(bodies, segment_id)
        return RebuildResult()
    holders = [piece.node for index, piece in enumerate(segment.row.pieces) if piece.node and index not in bad]
    nodes = bodies.placer.choose(len(bad), size=segment.shape.piece_size, exclude=holders)
    targets = dict(zip(sorted(bad), nodes, strict=False))
    missing = tuple(sorted(bad - targets.keys()))
    if not targets:
        return RebuildResult(missing=missing)
    made = await _make_pieces(bodies, segment, targets)
    pieces = list(segment.row.pieces)
    for index, piece in made.items():
        pieces[index] = piece
    swapped = await swap(bodies, segment, replace(segment.row, pieces=tuple(pieces)))
    if not swapped:
        return RebuildResult(gone=True)
    bodies.counters.repairs += 1
    bodies.counters.pieces_rebuilt += len(made)
    return RebuildResult(tuple(sorted(made)), missing)


async def _make_pieces(bodies: BodyStore, segment: Segment, targets: dict[int, Node]) -> dict[int, PieceRow]:
    """Stream rebuilt pieces to their nodes. What a node refuses fails the rebuild; the worker tries again."""
    moved = asyncio.Event()
    streams = {index: PieceStream(_QUEUE, moved) for index in targets}
    names = {index: piece_name(bodies.epochs.epoch, segment.id) for index in targets}
    puts = {
        index: asyncio.create_task(node.backend.put(names[index], streams[index])) for index, node in targets.items()
    }
    tools = bodies.read_tools
    verified = VerifiedSegment(tools, segment, report=False)
    rebuilder = Rebuilder(tools.codec, segment.id, segment.shape, sorted(targets))
    loop = asyncio.get_running_loop()
    patience = bodies.write_tools.limits.stuck
    try:
        for stripe in range(segment.shape.stripes):
            have = await verified.shards(stripe)
            shards = await loop.run_in_executor(tools.pool, rebuilder.stripe, have)
            for index, shard in shards.items():
                while streams[index].full and not puts[index].done():
                    moved.clear()
                    waiter = asyncio.create_task(moved.wait())
                    done, _ = await asyncio.wait(
                        {waiter, puts[index]}, timeout=patience, return_when=asyncio.FIRST_COMPLETED
                    )
                    waiter.cancel()
                    if not done:
                        raise TimeoutError
                streams[index].push(shard)
        trailers = rebuilder.finish()
        for index, trailer in trailers.items():
            if trailer.digest != segment.piece(index).digest:
                raise Damaged("a rebuilt piece is not the one that was written")
            streams[index].end(trailer)
        async with asyncio.timeout(patience):
            await asyncio.gather(*puts.values())
    except BaseException as error:
        for index, task in puts.items():
            if isinstance(error, TimeoutError) and not task.done():
                bodies.placer.observe(targets[index].id, ok=False, seconds=patience, error=error)
            task.cancel()
        outcomes = await asyncio.gather(*puts.values(), return_exceptions=True)
        for (index, node), outcome in zip(targets.items(), outcomes, strict=True):
            # Without an answer the piece may be stored all the same.
            bodies.trash.add(node.id, outcome if isinstance(outcome, bytes) else names[index].encode())
            if isinstance(outcome, BackendError | OSError):
                bodies.placer.observe(node.id, ok=False, seconds=0.0, error=outcome)
        if isinstance(error, BackendError | OSError):
            raise Unavailable("a node refused a rebuilt piece") from error
        raise
    return {
        index: PieceRow(targets[index].id, puts[index].result(), trailers[index].digest) for index in sorted(targets)
    }


async def swap(bodies: BodyStore, old: Segment, new: SegmentRow) -> bool:
    """Replace a segment's row if it is still `old`; queue what the new row does not name. False if it changed."""
    row = replace(new, generation=old.row.generation + 1)
    kind = bodies.classes.get(row.storage_class)
    needs_care = not all(piece.node for piece in row.pieces) or (row.k, row.m) != (kind.full.k, kind.full.m)
    kept = {(piece.node, piece.locator) for piece in row.pieces}
    dropped = [piece for piece in old.row.pieces if piece.node and (piece.node, piece.locator) not in kept]

    stays = {index for index, piece in enumerate(old.row.pieces) if piece.node and piece in row.pieces}
    suspect: list[tuple[int, int]] = []

    async def change(txn: Transaction) -> bool:
        await bodies.epochs.guard(txn)
        data = await txn.get(SEGMENT + old.id)
        if data is None or SEGMENT_ROW.decode(data).generation != old.row.generation:
            return False
        suspect[:] = await _carry_suspects(txn, old.id, stays, row.generation)
        txn.put(SEGMENT + old.id, SEGMENT_ROW.encode(row))
        for piece in dropped:
            txn.put(QUEUE_PIECE + piece.node + piece.locator, b"")
        if needs_care:
            txn.put(SHORT + old.id, b"")
        else:
            txn.delete(SHORT + old.id)
        return True

    fresh = {(piece.node, piece.locator) for piece in row.pieces if piece.node} - {
        (piece.node, piece.locator) for piece in old.row.pieces
    }
    try:
        swapped = await bodies.catalog.transact(change)
    except IN_DOUBT:
        bodies.registry.forget(old.id)
        raise
    except Exception:
        for node, locator in fresh:
            bodies.trash.add(node, locator)
        raise
    bodies.registry.forget(old.id)
    if swapped:
        for index, stripe in suspect:
            bodies.registry.suspect(old.id, index, stripe)
    else:
        for node, locator in fresh:
            bodies.trash.add(node, locator)
    return swapped


async def _suspected(reader: Reader, segment_id: bytes) -> set[int]:
    """Pieces that any gateway proved damaged."""
    prefix = SUSPECT + segment_id
    rows = await reader.scan(prefix, prefix_end(prefix), limit=100_000, keys_only=True)
    return {parse_suspect_key(key)[1] for key, _ in rows}


async def _carry_suspects(
    txn: Transaction, segment_id: bytes, stays: set[int], generation: int
) -> list[tuple[int, int]]:
    """Let go of suspicions but of the pieces in `stays`, which go on to the new placement; returns those."""
    prefix = SUSPECT + segment_id
    kept = []
    for key, value in await txn.scan(prefix, prefix_end(prefix), limit=100_000):
        _, index, stripe = parse_suspect_key(key)
        if index in stays:
            txn.put(key, SUSPECT_ROW.encode(replace(SUSPECT_ROW.decode(value), generation=generation)))
            kept.append((index, stripe))
        else:
            txn.delete(key)
    return kept


async def _clear_suspects(txn: Transaction, segment_id: bytes) -> None:
    prefix = SUSPECT + segment_id
    for key, _ in await txn.scan(prefix, prefix_end(prefix), limit=100_000, keys_only=True):
        txn.delete(key)


async def _settle_rows(bodies: BodyStore, segment_id: bytes) -> None:
    """Remove the care rows of a segment that is gone or whole."""

    async def settle(txn: Transaction) -> None:
        data = await txn.get(SEGMENT + segment_id)
        row = SEGMENT_ROW.decode(data) if data is not None else None
        if row is None:
            await _clear_suspects(txn, segment_id)
            txn.delete(SHORT + segment_id)
            return
        full = bodies.classes.get(row.storage_class).full
        if all(piece.node for piece in row.pieces) and (row.k, row.m) == (full.k, full.m):
            txn.delete(SHORT + segment_id)

    await bodies.catalog.transact(settle)
    bodies.registry.forget(segment_id)


async def recode_segment(bodies: BodyStore, segment_id: bytes) -> bool:
    """Code a segment anew with its class's widest scheme that fits now; False when that is no wider than it is.

    The segment keeps its id and its sealed bytes, so bodies need not know. Raises Unavailable, Damaged, StorageFull.
    """
    segment = await bodies.registry.get(segment_id, fresh=True)
    if segment is None:
        await _settle_rows(bodies, segment_id)
        return False
    kind = bodies.classes.get(segment.row.storage_class)
    if segment.scheme == kind.full:
        return False
    target = choose_target(bodies.placer, kind, segment.row.sealed_length)
    if target.scheme.k <= segment.scheme.k:
        return False
    tools = bodies.write_tools
    writer = tools.writer(kind, segment.row.sealed_length, segment_id=segment_id)
    try:
        if writer.scheme.k <= segment.scheme.k:
            await writer.abandon()
            return False
        await _copy(bodies, segment, writer)
        row = await writer.finish()
    except BaseException:
        await writer.abandon()
        raise
    if not await swap(bodies, segment, row):
        return False
    bodies.counters.recodes += 1
    return True


async def _copy(bodies: BodyStore, segment: Segment, writer: SegmentWriter) -> None:
    """Read a segment's sealed bytes with proof and write them in the writer's stripes."""
    verified = VerifiedSegment(bodies.read_tools, segment, report=False)
    size = writer.scheme.stripe_size
    loop = asyncio.get_running_loop()
    gathered: list[memoryview] = []
    held, left = 0, segment.row.sealed_length
    for stripe in range(segment.shape.stripes):
        for part in await verified.sealed_stripe(stripe):
            while part.nbytes:
                take = part[: min(part.nbytes, min(size, left) - held)]
                gathered.append(take)
                held += take.nbytes
                part = part[take.nbytes :]
                if held == min(size, left):
                    await writer.write(
                        await loop.run_in_executor(bodies.read_tools.pool, _code, bodies, writer, gathered, held)
                    )
                    left -= held
                    gathered, held = [], 0


def _code(bodies: BodyStore, writer: SegmentWriter, parts: Sequence[Buffer], length: int) -> Stripe:
    row = memoryview(bytearray(writer.scheme.n * -(-length // writer.scheme.k)))
    place = 0
    for part in parts:
        row[place : place + len(part)] = part
        place += len(part)
    return code_stripe(bodies.write_tools.codec, writer.scheme, row, length)
