"""The reclaimer: takes apart in small transactions what a request only unlinked.

RECLAIM rows say what and from when on. Every task may be cut off anywhere and done again, also by two gateways at
once: what it does is decided by the rows it reads in its transactions.
"""

from __future__ import annotations

from typing import ClassVar

from catalog.interface import Reader, Row, Transaction
from catalog.keys import prefix_end, u64
from core.workers import WorkerReport, WorkerState
from engine import references
from engine.complete import includes
from engine.context import Context
from engine.layout import (
    EXTENTS,
    HEAD,
    MANIFEST,
    PART,
    PARTS,
    RECLAIM,
    RECLAIM_BUCKET,
    RECLAIM_MANIFEST,
    RECLAIM_TOMBSTONE,
    RECLAIM_UPLOAD,
    UPLOAD,
    UPLOAD_LIST,
    part_referrer,
    reclaim_key,
    spread,
)
from engine.records import EXTENTS_ROW, HEAD_ROW, PART_ROW, UPLOAD_ROW, Extent
from engine.uploads import end_upload, let_go
from engine.versions import TOMBSTONE_US

#: References let go in one transaction.
BATCH = 100
#: How long a completed upload answers a repeated completion.
REMEMBER_US = 24 * 3600 * 1_000_000
#: Tasks looked up at once.
TASKS = 100
#: Manifests whose first sight is remembered; others wait for all readers of the moment, whenever they are looked at.
MAX_WAITING = 100_000


class Reclaimer:
    """Worker: manifests without referrers, parts of ended uploads, uploads of removed buckets, old tombstones."""

    name = "reclaim"
    interval = 5.0

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tasks: list[Row] = []
        self._after = RECLAIM  # tasks up to here were looked at in this round
        self._done = 0  # in this round
        self._seen = 0  # a sequence that covers what made the tasks
        self._waiting: dict[bytes, int] = {}  # manifests that a reader may have open -> the sequence it must pass
        self._report = WorkerReport(counters={"tasks": 0, "bodies": 0, "waiting": 0})

    def report(self) -> WorkerReport:
        return self._report

    async def turn(self) -> WorkerState:
        """One task's next transaction. A round goes over all tasks that are due; idle after one that did nothing."""
        if not self._tasks:
            end = RECLAIM + u64(self._context.clock.now_us() + 1)

            async def look(reader: Reader) -> list[Row]:
                return await reader.scan(self._after, end, limit=TASKS, keys_only=True)

            self._tasks = await self._context.catalog.read(look)
            self._tasks.reverse()
            if self._tasks:
                # What made these tasks has a sequence up to this.
                self._seen = await self._context.catalog.sequence()
        state = WorkerState.BUSY
        if self._tasks:
            key = self._tasks[-1][0]
            task, target = key[len(RECLAIM) + 8], key[len(RECLAIM) + 9 :]
            if task == RECLAIM_MANIFEST and await self._is_read(target):
                finished = True
            else:
                finished = await self._STEPS[task](self, key, target)
                self._done += 1
                self._report.counters["tasks"] += finished
            if finished:
                self._tasks.pop()
                self._after = key + b"\0"
        else:
            if not self._done:
                state = WorkerState.IDLE
            self._after, self._done = RECLAIM, 0
        self._report.counters["waiting"] = len(self._waiting)
        self._report.state = state
        return state

    async def _is_read(self, manifest: bytes) -> bool:
        """Whether a reader may have opened the manifest before it died. Such a one still needs its rows."""
        sequence = self._waiting.get(manifest, self._seen)
        if await self._context.bodies.all_passed(sequence):
            self._waiting.pop(manifest, None)
            return False
        if len(self._waiting) < MAX_WAITING:
            self._waiting[manifest] = sequence
        return True

    async def _manifest(self, key: bytes, manifest: bytes) -> bool:
        """Let go of a dead manifest's bodies, then of its rows. True when done."""

        async def look(reader: Reader) -> list[Row]:
            return await reader.scan(EXTENTS + manifest, prefix_end(EXTENTS + manifest), limit=1)

        rows = await self._context.catalog.read(look)
        if not rows:
            await self._context.catalog.transact(lambda txn: self._forget_manifest(txn, key, manifest))
            return True
        place, raw = rows[0]
        extents = EXTENTS_ROW.decode(raw).extents
        for start in range(0, len(extents), BATCH):
            run = extents[start : start + BATCH]
            last = start + BATCH >= len(extents)

            async def commit(txn: Transaction, run: tuple[Extent, ...] = run, last: bool = last) -> None:
                if await references.is_alive(txn, manifest):
                    return
                for extent in run:
                    await let_go(
                        self._context, txn, part_referrer(manifest, extent.number), (extent,), keep=frozenset()
                    )
                if last:
                    txn.delete(place)

            await self._context.catalog.transact(commit)
            self._report.counters["bodies"] += len(run)
        return False

    async def _forget_manifest(self, txn: Transaction, key: bytes, manifest: bytes) -> None:
        for row, _ in await txn.scan(PARTS + manifest, prefix_end(PARTS + manifest), limit=10_000, keys_only=True):
            txn.delete(row)
        txn.delete(MANIFEST + manifest)
        txn.delete(key)

    async def _upload(self, key: bytes, token: bytes) -> bool:
        """Remove an ended upload's part rows, and in the end its own. True when done or put off."""
        manifest = spread(token)
        now_us = self._context.clock.now_us()

        async def commit(txn: Transaction) -> bool:
            raw = await txn.get(UPLOAD + manifest)
            upload = None if raw is None else UPLOAD_ROW.decode(raw)
            if upload is not None and upload.completed is None:
                txn.delete(key)  # in progress: not a task
                return True
            rows = await txn.scan(PART + manifest, prefix_end(PART + manifest), limit=BATCH)
            for place, row in rows:
                number = int.from_bytes(place[-2:], "big")
                if upload is None or not includes(upload, number):
                    extents = PART_ROW.decode(row).extents
                    await let_go(self._context, txn, part_referrer(manifest, number), extents, keep=frozenset())
                txn.delete(place)
            if len(rows) == BATCH:
                return False
            txn.delete(key)
            if upload is not None and upload.completed is not None:
                due = int.from_bytes(upload.completed.token[:8], "big") + REMEMBER_US
                if due > now_us:
                    txn.put(reclaim_key(RECLAIM_UPLOAD, token, due_us=due), b"")
                else:
                    txn.delete(UPLOAD + manifest)
            return True

        return await self._context.catalog.transact(commit)

    async def _bucket(self, key: bytes, bucket: bytes) -> bool:
        """End the uploads that were in progress in a removed bucket. True when none is left."""
        prefix = UPLOAD_LIST + bucket

        async def look(reader: Reader) -> list[Row]:
            return await reader.scan(prefix, prefix_end(prefix), limit=BATCH, keys_only=True)

        rows = await self._context.catalog.read(look)

        async def commit(txn: Transaction) -> None:
            for row, _ in rows:
                token = row[-16:]
                raw = await txn.get(UPLOAD + spread(token))
                if raw is not None:
                    end_upload(txn, token, UPLOAD_ROW.decode(raw))
                    txn.delete(UPLOAD + spread(token))
                txn.delete(row)
            if not rows:
                txn.delete(key)

        await self._context.catalog.transact(commit)
        return not rows

    async def _tombstone(self, key: bytes, hashed: bytes) -> bool:
        now_us = self._context.clock.now_us()

        async def commit(txn: Transaction) -> None:
            raw = await txn.get(HEAD + hashed)
            if raw is not None:
                head = HEAD_ROW.decode(raw)
                if head.current is None and head.order + TOMBSTONE_US <= now_us:
                    txn.delete(HEAD + hashed)
            txn.delete(key)

        await self._context.catalog.transact(commit)
        return True

    _STEPS: ClassVar = {
        RECLAIM_MANIFEST: _manifest,
        RECLAIM_UPLOAD: _upload,
        RECLAIM_BUCKET: _bucket,
        RECLAIM_TOMBSTONE: _tombstone,
    }
