"""The hold of a restored catalog: no piece is deleted until an operator accepts the restore.

A restored catalog is older than what the nodes hold, so what it doesn't reference may be all that the catalog before
the restore still needs. As long as the row META ‖ "restored" is there, whoever restored the wrong backup can go back.
A restore writes it before anything can run on the catalog, so a running catalog can only lose it, never get it.
"""

from __future__ import annotations

from typing import Final

from catalog.interface import Catalog, Reader, Transaction
from catalog.prefixes import META
from catalog.records import Codec, Record

_KEY: Final = META + b"restored"


class HoldRow(Record, tag=1, kw_only=True, frozen=True):
    """Which backup was restored: when it was made, microseconds since the Unix epoch."""

    backup_us: int


HOLD_ROW: Final = Codec(HoldRow)


async def put_hold(catalog: Catalog, backup_us: int, sequence: int) -> None:
    """Begin the hold. Only for a catalog that is being restored, at the backup's `sequence`."""
    await catalog.load([(_KEY, HOLD_ROW.encode(HoldRow(backup_us=backup_us)))], sequence=sequence)


async def held(catalog: Catalog) -> HoldRow | None:
    """The hold, if the catalog was restored and not yet accepted."""

    async def get(reader: Reader) -> bytes | None:
        return await reader.get(_KEY)

    data = await catalog.read(get)
    return None if data is None else HOLD_ROW.decode(data)


async def lift_hold(catalog: Catalog) -> bool:
    """Accept the restore, for good. False when there is no hold."""

    async def lift(txn: Transaction) -> bool:
        found = await txn.get(_KEY) is not None
        if found:
            txn.delete(_KEY)
        return found

    return await catalog.transact(lift)
