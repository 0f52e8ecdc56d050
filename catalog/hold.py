"""The hold of a catalog that took another one's place: no piece is deleted until an operator accepts it.

A restored catalog, one that was moved, and one that was taken into use again: another catalog was there before, and
what this one doesn't reference, or stops to reference, may be all that the other one needs. As long as the row
META ‖ "restored" is there, whoever restored the wrong backup, or wants to move back, can. It is written before anything
can run on the catalog, so a running catalog can only lose it, never get it.
"""

from __future__ import annotations

from typing import Final

from catalog.interface import Catalog, Reader, Transaction
from catalog.prefixes import META
from catalog.records import Codec, Record

_KEY: Final = META + b"restored"


class HoldRow(Record, tag=1, kw_only=True, frozen=True):
    """How old the catalog was when it took the other one's place: when its backup was made, or it was moved or copied;
    microseconds since the Unix epoch."""

    backup_us: int


HOLD_ROW: Final = Codec(HoldRow)


async def put_hold(catalog: Catalog, backup_us: int, sequence: int) -> None:
    """Begin the hold. Only for a catalog that nobody uses yet, whose sequence becomes at least `sequence`."""
    await catalog.load([(_KEY, HOLD_ROW.encode(HoldRow(backup_us=backup_us)))], sequence=sequence)


async def held(catalog: Catalog) -> HoldRow | None:
    """The hold, if the catalog was not accepted yet."""

    async def get(reader: Reader) -> bytes | None:
        return await reader.get(_KEY)

    data = await catalog.read(get)
    return None if data is None else HOLD_ROW.decode(data)


async def lift_hold(catalog: Catalog) -> bool:
    """Accept the catalog, for good. False when there is no hold."""

    async def lift(txn: Transaction) -> bool:
        found = await txn.get(_KEY) is not None
        if found:
            txn.delete(_KEY)
        return found

    return await catalog.transact(lift)
