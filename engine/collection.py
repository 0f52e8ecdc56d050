"""Collection: what nothing references any more is deleted, once no running read can still want it.

Queue rows go through three stages, each in one transaction that may be repeated: a released body gives up its slice of
a pack or its segments; a retired segment gives up its pieces; a piece is deleted on its node and its row removed. A row
is acted upon only when every live gateway's oldest read began after a commit that shows it. Rows of pieces on nodes
that do not answer stay until they do; a piece that its node refuses to delete is tried again ever more rarely.

Pieces that no row names (uploads that were cut off) are found by their writer's epoch: see `engine.sweeping`.

Where snapshots of the catalog are kept, a piece is deleted only once a snapshot shows that nothing needs it: a restore
takes the catalog back to the newest one, which must find all that it names. `covers` tells.

On a restored catalog that no operator accepted yet (see catalog/hold.py) rows go on through their stages, but no piece
is deleted save what this process itself wrote in vain: the catalog before the restore may reference any other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from backends.errors import BackendError
from catalog.epochs import Epochs
from catalog.hold import held
from catalog.interface import Reader, Transaction
from core.crashpoints import reach
from core.workers import WorkerReport, WorkerState
from engine.backoff import Backoff
from engine.bodies.store import BodyStore
from engine.layout_data import (
    BODY,
    DRAFT,
    ID,
    PACK,
    PACK_DEAD,
    QUEUE_BODY,
    QUEUE_PIECE,
    QUEUE_SEGMENT,
    SEGMENT,
    SHORT,
    SUSPECT,
    prefix_end,
    staged_key,
)
from engine.ports import Node
from engine.records_data import BODY_ROW, SEGMENT_ROW, is_unwritten
from engine.sweeping import PATIENCE, Sweeping

#: Of so many turns with other work, one looks for pieces without rows all the same.
SWEEP_EVERY = 16
_BATCH = 256
#: Pieces of a node that wait for a snapshot together: each lets go what was read before it, at once so many.
_WAITING = 16 * _BATCH
_SIDE_BY_SIDE = 16
_U32 = 4


class CollectionWorker:
    """Deletes what is dead. Named `collection`."""

    name = "collection"
    interval = 5.0

    def __init__(
        self,
        bodies: BodyStore,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        covers: Callable[[int], Awaitable[bool]] | None = None,
    ) -> None:
        self._bodies = bodies
        self._covers = covers
        self._refusals: Backoff[tuple[bytes, bytes]] = Backoff(monotonic=monotonic)  # of (node, locator)
        self._state = WorkerState.IDLE
        self._stages = ((QUEUE_BODY, self._bodies_gone), (QUEUE_SEGMENT, self._segments_gone))
        self._batches: dict[bytes, tuple[list[bytes], int]] = {}  # queue rows seen, and the commit that showed them
        self._cursors: dict[bytes, bytes] = {}  # node -> the last row of its queue that was dealt with
        self._sweeping = Sweeping(bodies, self._without_rows)
        self._look_around = False
        self._unswept = 0  # turns since pieces without rows were looked for
        self._held = True  # until the catalog says otherwise

    def force(self) -> None:
        """Look once for pieces of epochs that the catalog does not know, too: what was written after the backup that it
        was restored from, or by a process that went on after its epoch was collected. Lists every piece there is. And
        try again what was refused."""
        self._look_around = True
        self._refusals.forget()

    async def turn(self) -> WorkerState:
        busy = await self._empty_trash()
        for prefix, stage in self._stages:
            keys = await self._passed(prefix)
            if keys:
                await stage(keys)
                busy = True
        # A hold can only be lifted while a catalog is in use, so once there is none it needn't be looked for.
        self._held = self._held and await held(self._bodies.catalog) is not None
        if not self._held:
            busy |= await self._delete_pieces(busy)
        self._state = WorkerState.BUSY if busy else WorkerState.IDLE
        return self._state

    async def _delete_pieces(self, busy: bool) -> bool:
        """Queued pieces and, in turns without other work and some with, what dead epochs left."""
        for node in self._bodies.placer.nodes():
            if self._bodies.placer.is_up(node.id):
                after = self._cursors.get(node.id, b"")
                keys = await self._passed(QUEUE_PIECE + node.id, after)
                busy |= bool(keys) and await self._pieces_gone(node, keys, more=keys[0] > after)
        self._unswept += 1
        if busy and self._unswept < SWEEP_EVERY:
            return True
        self._unswept = 0
        if self._look_around:
            self._look_around = False
            await self._sweeping.unknown_epochs()
            return True
        return await self._sweeping.dead_epochs() or busy

    async def standby(self) -> WorkerState:
        """What this process wrote in vain is known to no other."""
        return WorkerState.BUSY if await self._empty_trash() else WorkerState.IDLE

    def report(self) -> WorkerReport:
        counters = self._bodies.counters
        hold = "; held until the catalog is accepted" if self._held else ""
        return WorkerReport(
            self._state,
            f"{counters.pieces_collected} pieces deleted{hold}",
            {
                "bodies": counters.bodies_collected,
                "segments": counters.segments_collected,
                "pieces": counters.pieces_collected,
                "unreachable": counters.pieces_unreachable,
                "refused": len(self._refusals),
                "epochs": counters.epochs_collected,
            },
        )

    async def _passed(self, prefix: bytes, after: bytes = b"") -> list[bytes]:
        """Queue rows that no running read can precede; none while one still can. Those behind the row `after` first."""
        limit = _WAITING if prefix.startswith(QUEUE_PIECE) else _BATCH

        async def scan(reader: Reader) -> list[bytes]:
            start, end = after + b"\0" if after else prefix, prefix_end(prefix)
            rows = await reader.scan(start, end, limit=limit, keys_only=True)
            if after and not rows:
                rows = await reader.scan(prefix, end, limit=limit, keys_only=True)
            return [key for key, _ in rows]

        catalog = self._bodies.catalog
        # Kept until it has passed: under steady load some reader is always older than the newest commit.
        keys, sequence = self._batches.pop(prefix, ([], 0))
        if not keys:
            keys = await catalog.read(scan)
            # Asked for, not merely known: a shared catalog gives commits their sequence after they can be seen.
            sequence = await catalog.sequence() if keys else 0
        if keys and not (await self._epochs.all_passed(sequence) and await self._recoverable(prefix, sequence)):
            self._batches[prefix] = (keys, sequence)
            return []
        if len(keys) > _BATCH:
            self._batches[prefix] = (keys[_BATCH:], sequence)
        return keys[:_BATCH]

    async def _recoverable(self, prefix: bytes, sequence: int) -> bool:
        """Whether a restore would not want back what these rows let go: only pieces are lost for good."""
        return self._covers is None or not prefix.startswith(QUEUE_PIECE) or await self._covers(sequence)

    @property
    def _epochs(self) -> Epochs:
        return self._bodies.epochs

    # -- stages

    async def _bodies_gone(self, keys: Sequence[bytes]) -> None:
        """Released bodies: remove their rows, mark their slices dead, retire their segments."""

        async def collect(txn: Transaction) -> None:
            await self._epochs.guard(txn)
            rows = await txn.get_many([BODY + key[len(QUEUE_BODY) :] for key in keys])
            packs: dict[bytes, tuple[bool, bool]] = {}
            for key, data in zip(keys, rows, strict=True):
                body_id = key[len(QUEUE_BODY) :]
                txn.delete(key)
                if data is None:
                    continue
                txn.delete(BODY + body_id)
                row = BODY_ROW.decode(data)
                for segment_id, _ in row.segments:
                    txn.put(QUEUE_SEGMENT + segment_id, b"")
                if row.slice is not None:
                    pack, offset, length = row.slice
                    if pack not in packs:
                        born, draft = await txn.get_many([PACK + pack, DRAFT + pack])
                        packs[pack] = born is not None, draft is not None and is_unwritten(draft)
                    written, unwritten = packs[pack]
                    if written or unwritten:
                        txn.put(PACK_DEAD + pack + body_id, length.to_bytes(_U32, "big"))
                    if unwritten:
                        txn.delete(staged_key(pack, offset))  # its bytes need not get into the pack

        await self._bodies.catalog.transact(collect)
        for key in keys:
            self._bodies.locations.forget(key[len(QUEUE_BODY) :])
        self._bodies.counters.bodies_collected += len(keys)
        reach("collection-bodies")

    async def _segments_gone(self, keys: Sequence[bytes]) -> None:
        """Retired segments: remove their rows, queue their pieces."""
        keys = keys[: _BATCH // 8]

        async def collect(txn: Transaction) -> None:
            await self._epochs.guard(txn)
            for key in keys:
                segment_id = key[len(QUEUE_SEGMENT) :]
                data = await txn.get(SEGMENT + segment_id)
                txn.delete(key)
                txn.delete(SEGMENT + segment_id)
                txn.delete(SHORT + segment_id)
                txn.delete(PACK + segment_id)
                for prefix in (SUSPECT + segment_id, PACK_DEAD + segment_id):
                    for found, _ in await txn.scan(prefix, prefix_end(prefix), limit=100_000, keys_only=True):
                        txn.delete(found)
                if data is not None:
                    for piece in SEGMENT_ROW.decode(data).pieces:
                        if piece.node:
                            txn.put(QUEUE_PIECE + piece.node + piece.locator, b"")

        await self._bodies.catalog.transact(collect)
        for key in keys:
            self._bodies.registry.forget(key[len(QUEUE_SEGMENT) :])
        self._bodies.counters.segments_collected += len(keys)
        reach("collection-segments")

    async def _pieces_gone(self, node: Node, keys: Sequence[bytes], *, more: bool) -> bool:
        """Pieces of one node: delete them, then forget them. False if the node did not let us, or where none was due
        and there are no `more` to look at. What can't be deleted has its turn again once the node's whole queue was
        gone through, if it is due then."""
        due = [key for key in keys if self._refusals.is_due((node.id, key[len(QUEUE_PIECE) + ID :]))]
        done, tried = await self._delete(node, [key[len(QUEUE_PIECE) + ID :] for key in due])
        self._cursors[node.id] = keys[-1] if tried == len(due) else due[tried - 1]
        if len(done) < len(keys):
            self._batches.pop(QUEUE_PIECE + node.id, None)  # what follows is looked for anew
        reach("collection-pieces")
        if not done:
            return not due and more and len(keys) == _BATCH
        gone = [key for key in due if key[len(QUEUE_PIECE) + ID :] in done]

        async def forget(txn: Transaction) -> None:
            for key in gone:
                txn.delete(key)

        await self._bodies.catalog.transact(forget)
        return True

    async def _delete(self, node: Node, locators: Sequence[bytes]) -> tuple[set[bytes], int]:
        """Delete pieces on a node, some at a time; returns those that are gone and how many were tried. Goes on past
        pieces that can't be deleted, but stops when the node is down."""
        done: set[bytes] = set()
        tried = 0
        for start in range(0, len(locators), _SIDE_BY_SIDE):
            group = locators[start : start + _SIDE_BY_SIDE]
            outcomes = await asyncio.gather(*(_delete_one(node, each) for each in group), return_exceptions=True)
            answers = None in outcomes  # then what failed says nothing of the node
            tried += len(group)
            for locator, outcome in zip(group, outcomes, strict=True):
                if outcome is None:
                    done.add(locator)
                    self._refusals.settled((node.id, locator))
                elif isinstance(outcome, BackendError | OSError | TimeoutError):
                    self._refusals.refused((node.id, locator))
                    if not answers:
                        self._bodies.placer.observe(node.id, ok=False, seconds=0.0, error=outcome)
                    self._bodies.counters.pieces_unreachable += 1
                else:
                    raise outcome
            if not self._bodies.placer.is_up(node.id):  # so it was not the pieces: they are due once it is back
                self._refusals.forget(lambda key: key[0] == node.id)
                break
        self._bodies.counters.pieces_collected += len(done)
        return done, tried

    async def _queue(self, keys: Sequence[bytes]) -> None:
        """Keep pieces that could not be deleted for later."""

        async def queue(txn: Transaction) -> None:
            for key in keys:
                txn.put(key, b"")

        if keys:
            await self._bodies.catalog.transact(queue)

    # -- pieces without rows

    async def _without_rows(self, node: Node, locators: Sequence[bytes]) -> None:
        """Pieces that a dead epoch left. What can't be deleted is queued, so that the epoch need not be gone through
        again for it."""
        # The newest snapshot may still name what no row does now: queued, it waits for the next.
        done = set() if self._covers is not None else (await self._delete(node, locators))[0]
        await self._queue([QUEUE_PIECE + node.id + locator for locator in locators if locator not in done])

    async def _empty_trash(self) -> bool:
        """Pieces that this process wrote in vain. Those on nodes that don't answer get queue rows."""
        pieces = self._bodies.trash.take(_BATCH)
        if not pieces:
            return False
        by_node: dict[bytes, list[bytes]] = {}
        for node_id, locator in pieces:
            by_node.setdefault(node_id, []).append(locator)
        left: list[bytes] = []
        for node_id, locators in by_node.items():
            node = self._bodies.placer.node(node_id)
            up = node is not None and self._bodies.placer.is_up(node_id)
            done = (await self._delete(node, locators))[0] if up and node is not None else set()
            left += [QUEUE_PIECE + node_id + locator for locator in locators if locator not in done]
        await self._queue(left)
        return True


async def _delete_one(node: Node, locator: bytes) -> None:
    async with asyncio.timeout(PATIENCE):
        await node.backend.delete(locator)
