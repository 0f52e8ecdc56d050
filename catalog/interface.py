"""The catalog: a transactional, ordered key-value store with two entries, `read` and `transact`.

Every room that stores rows owns one prefix byte (`catalog/prefixes.py`) and describes its keys and records in one
place. Keys are 1 to 2,200 bytes, compared bytewise; values up to 1 MiB.

The functions given to `read` and `transact` are coroutine functions so that a networked engine can fetch rows, but
they must await nothing except the reader's own methods: no I/O, no locks, no sleep. Embedded engines run them without
ever suspending.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

T = TypeVar("T")

Row = tuple[bytes, bytes]

#: What an embedded engine may offer besides, as its method `glance`, for what every request reads: what `get_many`
#: would give in a `read` that begins now, where that takes no waiting; else None, and `read` tells. Never blocks.
Glance = Callable[[Sequence[bytes]], list[bytes | None] | None]

#: Decides a transaction by the values of the keys that it reads: the rows to write (None removes one), or None not to
#: commit anything.
Decide = Callable[[list[bytes | None]], dict[bytes, bytes | None] | None]
#: What an embedded engine may offer besides, as its method `transact_known`, for what every small write does: a
#: transaction whose reads are known before it begins. Returns True once it is durable. False: nothing was written,
#: because `decide` gave nothing, what it read has changed meanwhile, or it could not run now; `transact` then tells.
#: Raises as `transact` does.
TransactKnown = Callable[[Sequence[bytes], Decide], Awaitable[bool]]

MAX_KEY = 2200
MAX_VALUE = 1 << 20


class Reader(Protocol):
    """A consistent snapshot."""

    async def get(self, key: bytes) -> bytes | None: ...

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """In the order of `keys`; one round trip on a networked engine."""
        ...

    async def scan(
        self, start: bytes, end: bytes, *, limit: int, reverse: bool = False, keys_only: bool = False
    ) -> list[Row]:
        """Up to `limit` rows with start ≤ key < end, in order (from the end when `reverse`). With `keys_only` values
        are empty."""
        ...


class View(Reader, Protocol):
    """A snapshot that its holder reads from more than once, with other things between."""

    async def unnumbered(self) -> list[bytes]:
        """Keys of commits that the view shows and that its feed does not list yet, because they have no sequence: none
        on embedded engines."""
        ...


class Transaction(Reader, Protocol):
    """A serializable read-write view; reads see its own writes."""

    def put(self, key: bytes, value: bytes) -> None:
        """Write without reading: two transactions that only put the same key don't conflict, the later one wins."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove; no error when absent."""
        ...


class Catalog(Protocol):
    """One catalog. All methods belong to the event loop that opened it."""

    @property
    def known_sequence(self) -> int:
        """The newest durable sequence that this process knows of; never ahead of the truth. Pins are taken from it.

        Engines that many processes share give a commit its sequence after it can be seen, so a read may show more than
        this: where all that a read showed must be covered, ask `sequence` after it."""
        ...

    @property
    def exclusive(self) -> bool:
        """Whether no other process can have this catalog open."""
        ...

    @property
    def local(self) -> bool:
        """Whether the catalog lies in this process's own data folder (embedded engines)."""
        ...

    async def read(self, function: Callable[[Reader], Awaitable[T]], *, long: bool = False) -> T:
        """Run `function` on a snapshot of what is durably committed. `long` marks scans of more than a few thousand
        rows, which an embedded engine moves off the event loop. A networked engine may run it again, so it must have
        no side effect but its return value. Raises `catalog.errors.CatalogUnavailable` where the database is out of
        reach."""
        ...

    def view(self) -> AbstractAsyncContextManager[View]:
        """A snapshot of what is durably committed that stays until the block ends, for background work that reads a lot
        in small slices. The view may be waited on beside other things, but it keeps what it shows from being reclaimed:
        hold it for seconds, and across no network I/O. Embedded engines read on the event loop's thread: slices of
        some hundred rows, please."""
        ...

    async def transact(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `function` serializably and return its result once the writes are durable.

        It may run again after a conflict, so it must have no side effect but its return value. If it raises, nothing
        is written and the error propagates. Concurrent calls may share one durable commit. Raises
        `catalog.errors.CommitUnknown` where the outcome can't be told (a cut connection at COMMIT).

        Cancellation that arrives while the commit is under way is held back until the outcome is known: then the
        result is returned, and the cancellation is delivered at the caller's next await.
        """
        ...

    async def sequence(self) -> int:
        """The commit sequence of the newest durable commit. A later snapshot shows at least this, and an earlier one
        no more: whatever a read that has ended showed has a sequence up to this."""
        ...

    async def changes(self, after: int, *, limit: int = 1000) -> list[Change]:
        """The change feed: commits with sequence > `after`, oldest first. Raises FeedTrimmed if some are gone."""
        ...

    async def wait_changes(self, after: int) -> int:
        """Return the newest sequence once it is > `after`."""
        ...

    def export(self, *, after: bytes = b"") -> AsyncGenerator[list[Row], None]:
        """All rows with key > `after` of one snapshot, in order, in bounded runs: for backups and copies."""
        ...

    async def load(self, rows: Sequence[Row], *, sequence: int) -> None:
        """Write rows of an `export` into a catalog that nobody else uses yet; they don't appear in the feed. The
        sequence becomes at least `sequence`."""
        ...

    async def close(self) -> None: ...


class Change(Protocol):
    """One entry of the feed: the keys that a commit (or a group of them) wrote or removed; values are read when
    needed."""

    @property
    def sequence(self) -> int: ...

    @property
    def keys(self) -> Sequence[bytes]: ...

    def under(self, prefix: bytes) -> Sequence[bytes]:
        """Those that begin with `prefix`. Costs next to nothing where there are none."""
        ...
