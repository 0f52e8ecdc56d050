"""Batches on their way to disk: gathering, writing, committing, growing the map, failing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

import lmdb

from catalog.errors import CatalogClosed, CatalogError, CatalogFailed, CatalogFull
from catalog.feed import TRIMMED_KEY, feed_row
from catalog.keys import u64
from catalog.lmdb_engine import longkeys
from catalog.lmdb_engine.committer import Committer
from catalog.lmdb_engine.environment import Environment
from catalog.lmdb_engine.overlay import Batch, Writes
from catalog.lmdb_engine.snapshot import Snapshot
from catalog.waiters import SequenceWaiters
from core.clock import Clock

_SLICE: Final = 512  # rows put between two turns of the event loop
_PATIENCE: Final = 0.001  # seconds that a batch waits until it has as many transactions as the one before


class Writer:
    """The path of one catalog's writes. All methods belong to the event loop's thread."""

    def __init__(
        self, environment: Environment, snapshot: Snapshot, changed: SequenceWaiters, clock: Clock, max_rows: int
    ) -> None:
        self._environment = environment
        self._snapshot = snapshot
        self._changed = changed
        self._clock = clock
        self._max_rows = max_rows
        self._loop = asyncio.get_running_loop()
        self._committer = Committer(environment.raw, environment.rows)
        self._gathering = Batch()
        self._joined = 0  # transactions in it
        self._before = 0  # and in the one before it
        self._timer: asyncio.TimerHandle | None = None  # it waits for more of them
        self._writing: Batch | None = None
        self._txn: Any = None  # the next write transaction, once the committer has begun it
        self._room = SequenceWaiters()
        self._idle = SequenceWaiters()
        self._remapped = SequenceWaiters()
        self._error: CatalogError | None = None
        self._busy = False  # a request is with the committer
        self._remapping = False
        self._paused = False
        self._held = False
        #: Told of each batch that was committed, or failed with an error, before those who wait for it.
        self.observer: Callable[[Batch, Exception | None], None] | None = None
        self.long_readers = 0
        self.sequence = environment.stored_sequence()
        #: Batches that a transaction reads through, newest first.
        self.pending: tuple[Batch, ...] = ()
        #: Whether a transaction may run at once; else `wait_ready` first.
        self.ready = True
        self._begin()

    # --- for transactions ---

    async def wait_ready(self) -> None:
        """Until there is room for another transaction. Raises CatalogFailed or CatalogClosed when there never will."""
        while not self.ready:
            if self._error is not None:
                raise self._error
            await self._room.wait()

    def join(self, writes: Writes) -> Batch | None:
        """Add a transaction's writes. Returns the batch whose commit makes what it wrote and read durable (it ends with
        CatalogFull or CatalogFailed when it can't); None if it wrote nothing and nothing is pending."""
        if not writes:
            return self.pending[0] if self.pending else None
        gathering = self._add(writes)
        if self._timer is not None and self._is_enough():
            self._begin_writing()
        return gathering

    def _add(self, writes: Writes) -> Batch:
        gathering = self._gathering
        self._joined += 1
        if not gathering.writes:
            self._loop.call_soon(self._start)
            gathering.merge(writes)
            self._update()
        else:
            gathering.merge(writes)
            if len(gathering.writes) >= self._max_rows:
                self.ready = False
        return gathering

    def join_unlisted(self, writes: Writes, sequence: int) -> Batch:
        """Add rows of a restored backup: not in the feed, which then begins behind `sequence`."""
        batch = self._add(writes or {TRIMMED_KEY: u64(sequence)})
        batch.trimmed = batch.sequence = sequence
        return batch

    # --- for those who serve other processes ---

    @property
    def writing(self) -> Batch | None:
        """The pending batch that may be committed already: the only one that other processes may have read."""
        return self._writing

    @property
    def refuses(self) -> CatalogError | None:
        """Why it takes no more, for good."""
        return self._error

    def hold(self) -> None:
        """Let no transaction run before `unhold`, while what is pending is written."""
        self._held = True
        self._update()

    def unhold(self) -> None:
        """After `hold`."""
        self._held = False
        self._update()

    # --- for long reads, which would crash if the map moved under them ---

    async def wait_remapped(self) -> None:
        """Until the map is not about to move."""
        while self._remapping or self._paused:
            await self._remapped.wait()

    def long_reader_left(self) -> None:
        """A snapshot other than the writer's own is closed."""
        self.long_readers -= 1
        if self._remapping and not self.long_readers:
            self._remap()
        self._idle.wake()

    async def pause(self) -> None:
        """Hold back commits, while transactions go on gathering. Returns when none is under way."""
        self._paused = True
        while self._busy or self._writing is not None:
            await self._idle.wait()
        if self._error is not None:
            raise self._error

    async def release(self) -> None:
        """While paused: let go of LMDB's environment. Returns when nobody reads in another thread, and the write
        transaction and its thread are gone."""
        while self.long_readers:
            await self._idle.wait()
        txn, self._txn = self._txn, None
        self._committer.abort(txn, lambda _error, _txn: None)
        del txn
        await asyncio.to_thread(self._committer.stop)

    def refuse(self, cause: CatalogError) -> None:
        """Fail what is pending and everything to come."""
        self._fail(cause)

    def resume(self) -> None:
        """After `pause`, or after `release` with the environment open again."""
        self._paused = False
        if self._txn is None and self._error is None:
            self._committer = Committer(self._environment.raw, self._environment.rows)
            self._begin()
        self._remapped.wake()
        self._start()

    # --- the way to disk ---

    def _update(self) -> None:
        """After the batches or the error changed: what transactions see and whether they may run."""
        batches = (self._gathering,) if self._writing is None else (self._gathering, self._writing)
        self.pending = tuple([batch for batch in batches if batch.writes])
        self.ready = self._error is None and len(self._gathering.writes) < self._max_rows and not self._held
        if self.ready or self._error is not None:
            self._room.wake()

    def _begin(self) -> None:
        self._busy = True
        self._committer.begin(self._begun)

    def _begun(self, error: BaseException | None, txn: Any) -> None:
        self._busy = False
        if error is not None:
            self._fail(CatalogFailed(f"the catalog can't begin to write: {error}"))
            return
        self._txn = txn
        if self._writing is not None:
            self._write(self._writing)
        else:
            self._start()

    def _start(self) -> None:
        """Write the gathered batch, unless one is being written, or more of it is about to come.

        A commit costs about the same whatever it holds. Those who were answered with the last one ask again at once
        where many write all the time: a commit for the first two of them would have all others wait for it. So a batch
        waits, not for long, until it has as many transactions; the two halves then take turns. Who writes alone never
        waits.
        """
        if self._can_begin() and self._timer is None:
            if self._is_enough():
                self._begin_writing()
            else:
                self._timer = self._loop.call_later(_PATIENCE, self._begin_writing)

    def _is_enough(self) -> bool:
        return self._joined >= self._before or not self.ready  # nobody can join it now

    def _can_begin(self) -> bool:
        """Whether the gathered batch can be written now; where not, those who wait for that look again."""
        if self._paused or self._writing is not None or self._txn is None or not self._gathering.writes:
            self._idle.wake()
            return False
        return True

    def _begin_writing(self) -> None:
        """Write the gathered batch, unless one is being written."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._can_begin():
            return
        self._before, self._joined = self._joined, 0
        batch = self._writing = self._gathering
        self._gathering = Batch()
        batch.sequence = max(self.sequence + 1, batch.sequence)
        self._update()
        self._write(batch)

    def _write(self, batch: Batch) -> None:
        self._advance(self._put(batch))

    def _advance(self, steps: Iterator[None]) -> None:
        """Put another slice of the batch; commit behind the last."""
        try:
            for _ in steps:
                self._loop.call_soon(self._advance, steps)
                return
        except lmdb.Error as error:
            cause = error
            self._busy = True
            txn, self._txn = self._txn, None
            self._committer.abort(txn, lambda _error, _txn: self._not_committed(cause))
            return
        self._busy = True
        txn, self._txn = self._txn, None
        self._committer.commit(txn, self._committed)

    def _put(self, batch: Batch) -> Iterator[None]:
        """Put a batch into the write transaction, with a pause after every slice but the last."""
        txn, rows, long = self._txn, self._environment.rows, self._environment.long
        writes, keys = batch.writes, batch.keys()
        for start in range(0, len(keys), _SLICE):
            if start:
                yield
            direct = []
            for key in keys[start : start + _SLICE]:
                value = writes[key]
                if len(key) <= longkeys.DIRECT:
                    if value is None:
                        txn.delete(key)
                    else:
                        direct.append((key, value))
                elif value is None:
                    longkeys.delete(txn, rows, long, key)
                else:
                    longkeys.put(txn, rows, long, key, value)
            # Rows that go behind all others fill their pages; put elsewhere in order they would leave them half full.
            cursor = txn.cursor()
            append = bool(direct) and (not cursor.last() or cursor.key() < direct[0][0])
            cursor.putmulti(direct, append=append)
        if batch.trimmed is not None:
            txn.put(TRIMMED_KEY, u64(batch.trimmed))
        else:
            row = feed_row(batch.sequence, self._clock.now_us(), keys)
            if row is not None:
                txn.put(*row)
        self._environment.put_sequence(txn, batch.sequence)

    def _committed(self, error: BaseException | None, txn: Any) -> None:
        if error is not None:
            self._not_committed(error)
            return
        batch, self._writing = self._writing, None
        assert batch is not None
        self._busy = False
        self._txn = txn
        self._snapshot.renew()
        self.sequence = batch.sequence
        self._update()
        if self.observer is not None:
            self.observer(batch, None)
        batch.finish(None)
        self._changed.wake()
        if txn is None:
            self._fail(CatalogFailed("no further write transaction could be begun"))
        else:
            self._start()

    def _not_committed(self, error: BaseException) -> None:
        self._busy = False
        if isinstance(error, lmdb.MapFullError):
            self._remapping = True
            if not self.long_readers:
                self._remap()
            return
        cause = self._environment.translate(error)
        if not isinstance(cause, CatalogFull):
            self._fail(cause)
            return
        # Space lacks for pages. If what failed was the record that makes them valid, LMDB begins no transaction any
        # more: only that tells whether this commit is in doubt.
        self._busy = True
        self._committer.begin(lambda panic, txn: self._refused(cause, panic, txn))

    def _refused(self, cause: CatalogError, panic: BaseException | None, txn: Any) -> None:
        """After a commit that failed for want of space, with the next transaction or why there is none."""
        self._busy = False
        self._txn = txn
        if panic is not None:
            cause = CatalogFailed(f"a commit of the catalog is in doubt: {panic}; it refuses writes until opened anew")
        self._fail(cause)

    def _remap(self) -> None:
        """Enlarge the map and write the batch again."""
        self._snapshot.close()
        try:
            self._environment.grow()
        except lmdb.Error as error:
            self._fail(CatalogFull(f"no address space for the catalog: {error}"))
        else:
            self._begin()
        finally:
            self._snapshot.renew()
            self._remapping = False
            self._remapped.wake()

    def _fail(self, cause: CatalogError) -> None:
        """Everything pending fails: later transactions have read what is now not going to be. All that come after
        fail too, unless it was only space that lacked."""
        failed = [batch for batch in (self._writing, self._gathering) if batch is not None]
        self._writing, self._gathering, self._joined = None, Batch(), 0
        if isinstance(cause, CatalogFull):
            if self._txn is None:
                self._begin()
        elif self._error is None:
            self._error = cause
        self._update()
        for batch in failed:
            if self.observer is not None:
                self.observer(batch, cause)
            batch.finish(cause)
        self._idle.wake()

    async def close(self) -> None:
        """Wait for what is pending and end the thread."""
        if self._error is None:
            self._error = CatalogClosed("the catalog is closed")
        self._update()
        while self._busy or self._writing is not None or self._gathering.writes:
            await self._idle.wait()
        txn, self._txn = self._txn, None
        if txn is not None:
            self._committer.abort(txn, lambda _error, _txn: None)
        del txn
        await asyncio.to_thread(self._committer.stop)
