"""Leases: one holder at a time for a named job, with a fencing token that grows with every new holder.

Rows: LEASE ‖ "t" ‖ name → token and holder, written on acquire and release; LEASE ‖ "x" ‖ name → expiry by its
holder's wall clock, written on renewal. They are apart so that work guarded by the token does not collide with
renewals. The token of a name never goes back, so it also fences things outside the catalog.

Nobody's clock is compared with another's: who wants a lease waits until its rows have not changed for as long as the
lease is held, by the waiting one's own monotonic clock. The expiry is there to differ from the one before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from catalog.errors import LeaseLost
from catalog.interface import Catalog, Reader, Transaction
from catalog.keys import u64
from catalog.prefixes import LEASE
from catalog.records import Codec, Record
from core.clock import Clock


class LeaseRow(Record, tag=1, kw_only=True, frozen=True):
    """Who holds a lease (empty: nobody) and the token it was given."""

    token: int
    holder: bytes = b""


LEASE_ROW: Final = Codec(LeaseRow)

#: A lease's rows: who has it, and the expiry that was written last.
_Seen = tuple[LeaseRow, bytes | None]


@dataclass(frozen=True, slots=True)
class Lease:
    """A held lease. It may have been lost since; `guard` tells for certain."""

    leases: Leases
    name: bytes
    token: int

    async def renew(self, seconds: float) -> None:
        """Hold it for `seconds` from now. Raises LeaseLost if somebody else took it or it was released."""
        await self.leases.renew(self, seconds)

    async def release(self) -> None:
        """Let others take it at once. Nothing happens if it is lost already."""
        await self.leases.release(self)

    async def guard(self, txn: Reader) -> None:
        """Make a transaction fail with LeaseLost unless the lease is still this holder's when it commits. An expired
        lease that nobody took is still held."""
        if (await self.leases.row(txn, self.name)).token != self.token:
            raise LeaseLost(f"the lease {self.name!r} was taken over")


#: Whether a holder still lives, as far as the rows tell.
Lives = Callable[[Reader, bytes], Awaitable[bool]]


class Leases:
    """The leases of one process. `holder` names it to people; two processes must not share one. A lease whose holder
    is dead by `lives` is free at once, without waiting for its end."""

    def __init__(self, catalog: Catalog, clock: Clock, *, holder: bytes, lives: Lives | None = None) -> None:
        if not holder:
            raise ValueError("a lease holder needs a name")
        self._catalog = catalog
        self._clock = clock
        self._holder = holder
        self._lives = lives
        self._observed: dict[bytes, tuple[_Seen, float]] = {}  # a lease that is another's, and since when it is so

    async def acquire(self, name: bytes, seconds: float) -> Lease | None:
        """Take the lease for `seconds`; None while another holder lives that was not seen silent for so long. Taking it
        again gives a new token, which fences off the earlier one."""

        async def look(reader: Reader) -> tuple[_Seen, bool]:
            row, expiry = await self.row(reader, name), await reader.get(_expiry_key(name))
            free = row.holder in (b"", self._holder)
            return (row, expiry), free or (self._lives is not None and not await self._lives(reader, row.holder))

        seen, free = await self._catalog.read(look)
        if not free and not self._is_silent(name, seen, seconds):
            return None

        async def acquire(txn: Transaction) -> int | None:
            row = await self.row(txn, name)
            if row != seen[0] or (not free and await txn.get(_expiry_key(name)) != seen[1]):
                return None
            txn.put(_row_key(name), LEASE_ROW.encode(LeaseRow(token=row.token + 1, holder=self._holder)))
            txn.put(_expiry_key(name), self._expiry(seconds))
            return row.token + 1

        token = await self._catalog.transact(acquire)
        if token is None:
            return None
        self._observed.pop(name, None)
        return Lease(self, name, token)

    def _is_silent(self, name: bytes, seen: _Seen, seconds: float) -> bool:
        """Whether a lease was the same for so long, as far as this process saw."""
        now = self._clock.monotonic()
        former = self._observed.get(name)
        if former is None or former[0] != seen:
            self._observed[name] = (seen, now)
            return False
        return now - former[1] >= seconds

    def _expiry(self, seconds: float) -> bytes:
        return u64(self._clock.now_us() + int(seconds * 1e6))

    async def renew(self, lease: Lease, seconds: float) -> None:
        """See `Lease.renew`."""
        expiry = self._expiry(seconds)

        async def renew(txn: Transaction) -> None:
            await lease.guard(txn)
            txn.put(_expiry_key(lease.name), expiry)

        await self._catalog.transact(renew)

    async def release(self, lease: Lease) -> None:
        """See `Lease.release`."""

        async def release(txn: Transaction) -> None:
            row = await self.row(txn, lease.name)
            if row.token == lease.token and row.holder:
                # The token goes up, so that whatever still runs under the lease is fenced off from now on.
                txn.put(_row_key(lease.name), LEASE_ROW.encode(LeaseRow(token=row.token + 1)))

        await self._catalog.transact(release)

    async def holder(self, name: bytes) -> bytes:
        """Who took the lease last and did not give it back; empty for nobody. Whether it still lives is another
        question."""
        return (await self._catalog.read(lambda reader: self.row(reader, name))).holder

    async def row(self, reader: Reader, name: bytes) -> LeaseRow:
        """The stored state of a lease."""
        stored = await reader.get(_row_key(name))
        return LeaseRow(token=0) if stored is None else LEASE_ROW.decode(stored)


def _row_key(name: bytes) -> bytes:
    return LEASE + b"t" + name


def _expiry_key(name: bytes) -> bytes:
    return LEASE + b"x" + name
