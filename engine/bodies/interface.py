"""What the metadata half sees of bodies: store, commit, read, release."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Protocol, TypeVar

import msgspec

from catalog.interface import Transaction
from core.buffers import Source
from engine.bodies.placed import Placed
from engine.types import Digest, Finish, Outcome

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: `Bodies.fetch` refuses longer ranges: it returns one buffer.
MAX_FETCH = 1 << 20


class BodyRef(msgspec.Struct, frozen=True, gc=False):
    """Enough to read a body, together with its key. `length` is plaintext bytes of the whole body."""

    id: bytes
    length: int


class StoredBody(msgspec.Struct):
    """A body whose bytes are complete (durable on nodes, inline, or sealed and waiting for their pack) and that no
    transaction has committed yet. Ends in exactly one of `commit` and `discard`."""

    id: bytes
    length: int
    outcome: Outcome
    placed: Placed

    @property
    def ref(self) -> BodyRef:
        return BodyRef(self.id, self.length)


class Pin(Protocol):
    """Holds back collection: nothing that a catalog read after `take` saw is collected before `release`."""

    def release(self) -> None:
        """Idempotent."""
        ...

    def __enter__(self) -> Pin: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Known(Protocol[T_co]):
    """What a transaction would come to, by the values of the few rows that it reads."""

    @property
    def reads(self) -> tuple[bytes, ...]:
        """The rows' keys."""
        ...

    def at_once(self, found: Sequence[bytes | None]) -> tuple[T_co, dict[bytes, bytes | None]] | None:
        """Its result, and the rows that it writes (None removes one), the body's ALIVE row among them; None where more
        than these values would have to be seen."""
        ...


class Bodies(Protocol):
    """Immutable runs of sealed bytes on nodes."""

    async def store(
        self,
        source: Source | bytes,
        *,
        content_key: bytes,
        storage_class: str,
        digests: Sequence[Digest] = (),
        finish: Finish,
        size_hint: int | None = None,
    ) -> StoredBody:
        """Take a whole body from `source` under a fresh id; its key is `erasure.keys.body_key(content_key, id)`.

        `digests` see the plaintext in order, beside the pipeline, never two calls on one digest at once. `finish` is
        called once with the length after the last byte. If `source` or `finish` raises, or the task is cancelled,
        everything written is dropped and the error propagates. Raises engine.errors.Unavailable or StorageFull when
        too few nodes take the bytes. `size_hint` (plaintext bytes, if known) only saves work.
        """
        ...

    async def commit(self, stored: Sequence[StoredBody], function: Callable[[Transaction], Awaitable[T]]) -> T:
        """Make bodies exist: run `function` in the one catalog transaction that also writes their rows.

        Body and ALIVE rows (without a referrer yet) are put before `function` runs, so it calls
        `references.add(txn, body.id, referrer)`. `function` follows the rules of `Catalog.transact`: it may run again,
        awaits nothing but `txn`. On return everything is durable. If it raises, nothing is written, the bodies'
        bytes are dropped and the error propagates. Fails with Unavailable when this gateway's epoch was declared dead.
        """
        ...

    async def commit_known(self, body: StoredBody, known: Known[T]) -> T | None:
        """`commit` of one body in one step, where that is possible: the fast path of small writes. None: nothing has
        happened, and `commit` is to be asked."""
        ...

    async def discard(self, stored: Sequence[StoredBody]) -> None:
        """Drop bodies that won't be committed."""
        ...

    def read(self, ref: BodyRef, body_key: bytes, offset: int, length: int) -> AsyncIterator[memoryview]:
        """Plaintext from `offset`, exactly `length` bytes (the range must lie inside the body), in order, in chunks of
        at most 1 MiB. A chunk is valid until the next is asked for. Close the iterator (`aclose`) to stop early. The
        caller holds a pin from before it learned of `ref`. Raises Unavailable or Damaged; never yields wrong bytes."""
        ...

    async def fetch(self, ref: BodyRef, body_key: bytes, offset: int, length: int) -> bytes:
        """The same for up to 1 MiB, as one buffer."""
        ...

    def fetch_now(self, ref: BodyRef, body_key: bytes, offset: int, length: int) -> bytes | None:
        """As `fetch` where that needs no waiting and meets no trouble, else None; then `fetch` tells. The fast path of
        small reads."""
        ...

    async def release(self, txn: Transaction, body_id: bytes) -> None:
        """In the transaction in which `references.remove` said *last*: queue the body's bytes for collection."""
        ...

    def pin(self) -> Pin:
        """Take a pin (cheap, does no I/O). Take it BEFORE reading the catalog rows that lead to a body."""
        ...

    async def all_passed(self, sequence: int) -> bool:
        """Whether every pin, of any gateway, that was taken before commit `sequence` showed is released."""
        ...
