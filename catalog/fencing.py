"""Fencing: while a task works under a lease, every transaction of it checks the lease.

`FencedCatalog` stands before a catalog. What a task that has entered `fenced_by(lease)` transacts through it, and what
the tasks it creates transact, fails with LeaseLost once somebody else took the lease: a holder that was paused past its
lease's end changes nothing that its successor works on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from catalog.interface import Catalog, Change, Decide, Glance, Reader, Row, Transaction, TransactKnown, View
from catalog.leases import Lease

T = TypeVar("T")

_FENCE: ContextVar[Lease | None] = ContextVar("fence", default=None)


@contextmanager
def fenced_by(lease: Lease) -> Iterator[None]:
    """In this task, and in tasks that it creates meanwhile, transactions through a `FencedCatalog` need `lease`."""
    token = _FENCE.set(lease)
    try:
        yield
    finally:
        _FENCE.reset(token)


async def _not_done() -> bool:
    return False


class FencedCatalog:
    """A `Catalog` over another one; without a lease in force it adds nothing but one look at a context variable."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        #: See `catalog.interface.Glance`; None where the catalog does not offer it.
        self.glance: Glance | None = getattr(catalog, "glance", None)
        self._transact_known: TransactKnown | None = getattr(catalog, "transact_known", None)

    @property
    def known_sequence(self) -> int:
        return self._catalog.known_sequence

    @property
    def exclusive(self) -> bool:
        return self._catalog.exclusive

    @property
    def local(self) -> bool:
        return self._catalog.local

    def read(self, function: Callable[[Reader], Awaitable[T]], *, long: bool = False) -> Coroutine[Any, Any, T]:
        return self._catalog.read(function, long=long)

    def view(self) -> AbstractAsyncContextManager[View]:
        return self._catalog.view()

    def transact(self, function: Callable[[Transaction], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """As the catalog's own; raises LeaseLost where the task's lease is another's by now."""
        lease = _FENCE.get()
        if lease is None:
            return self._catalog.transact(function)

        async def guarded(txn: Transaction) -> T:
            await lease.guard(txn)
            return await function(txn)

        return self._catalog.transact(guarded)

    def transact_known(self, keys: Sequence[bytes], decide: Decide) -> Awaitable[bool]:
        """See `catalog.interface.TransactKnown`; not with a lease in force, nor where the catalog lacks it."""
        if self._transact_known is None or _FENCE.get() is not None:
            return _not_done()
        return self._transact_known(keys, decide)

    def sequence(self) -> Coroutine[Any, Any, int]:
        return self._catalog.sequence()

    def changes(self, after: int, *, limit: int = 1000) -> Coroutine[Any, Any, list[Change]]:
        return self._catalog.changes(after, limit=limit)

    def wait_changes(self, after: int) -> Coroutine[Any, Any, int]:
        return self._catalog.wait_changes(after)

    def export(self, *, after: bytes = b"") -> AsyncGenerator[list[Row], None]:
        return self._catalog.export(after=after)

    def load(self, rows: Sequence[Row], *, sequence: int) -> Coroutine[Any, Any, None]:
        return self._catalog.load(rows, sequence=sequence)

    def close(self) -> Coroutine[Any, Any, None]:
        return self._catalog.close()
