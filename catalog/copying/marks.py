"""Marks that keep gateways away: of a catalog that was moved, and of a copy that none was switched to.

Rows: META ‖ "moved" → where a catalog went, put when it was retired. META ‖ "copy" → of which catalog this one is a
copy, and how far; put before its first row and taken away when the source was retired. Both are of the catalog that
holds them and are never copied. While one of them is there no gateway starts.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from catalog.epochs import bury_all
from catalog.hold import put_hold
from catalog.interface import Catalog, Reader, Transaction
from catalog.prefixes import META
from catalog.records import Codec, Record
from core.errors import StartRefused

MOVED_KEY: Final = META + b"moved"
COPY_KEY: Final = META + b"copy"


class MovedRow(Record, tag=1, kw_only=True, frozen=True):
    """Where the catalog went, without secrets, and when (µs since the Unix epoch)."""

    target: str
    time_us: int


class CopyRow(Record, tag=1, kw_only=True, frozen=True):
    """`deployment`: whose catalog this is a copy of. `sequence`: it was compared with its source, shows every commit up
    to there, and no change was made to it since; 0: it is not whole. `time_us`: when that was. `run`: random bytes of
    whoever copied to it last, so that an earlier one finds out."""

    deployment: bytes
    sequence: int = 0
    time_us: int = 0
    run: bytes = b""


MOVED_ROW: Final = Codec(MovedRow)
COPY_ROW: Final = Codec(CopyRow)


async def read_marks(reader: Reader) -> tuple[MovedRow | None, CopyRow | None]:
    """The marks that are there. Raises FutureVersion or Corrupt."""
    moved, copy = await reader.get_many([MOVED_KEY, COPY_KEY])
    return (
        None if moved is None else MOVED_ROW.decode(moved),
        None if copy is None else COPY_ROW.decode(copy),
    )


async def require_unmarked(reader: Reader) -> None:
    """Raise StartRefused unless a gateway may use this catalog."""
    moved, copy = await read_marks(reader)
    if moved is not None:
        raise StartRefused(
            f"this catalog was moved to {moved.target} at {_text(moved.time_us)}: start with that one; "
            "`atoll catalog reopen` goes back to this one, without what was written there"
        )
    if copy is not None and copy.sequence:
        raise StartRefused(
            f"this catalog is a copy as of {_text(copy.time_us)} that nobody switched to: `atoll catalog copy "
            "--switch` at its source does; if the source is lost, or says that it was moved here, `atoll catalog "
            "reopen` takes this one into use"
        )
    if copy is not None:
        raise StartRefused("this catalog is a copy that is not whole: run `atoll catalog copy` again at its source")


async def put_copy_mark(catalog: Catalog, row: CopyRow) -> None:
    """Say how far the copy in this catalog is."""
    encoded = COPY_ROW.encode(row)

    async def put(txn: Transaction) -> None:
        txn.put(COPY_KEY, encoded)

    await catalog.transact(put)


async def take_copy_mark(catalog: Catalog) -> None:
    """The copy takes the place of its source. Who lived there is not waited for here."""

    async def take(txn: Transaction) -> None:
        await bury_all(txn)
        txn.delete(COPY_KEY)

    await catalog.transact(take)


async def take_into_use(catalog: Catalog, now_us: int) -> None:
    """Take a catalog into use against its marks: one that was moved, or a whole copy. It is held as a restored one is
    (hold.py), because objects may have been written since under another catalog. The last step of taking it into use.
    """
    moved, copy = await catalog.read(read_marks)
    then = moved.time_us if moved is not None else copy.time_us if copy is not None else now_us
    await put_hold(catalog, then, await catalog.sequence())

    async def take(txn: Transaction) -> None:
        await bury_all(txn)
        txn.delete(MOVED_KEY)
        txn.delete(COPY_KEY)

    await catalog.transact(take)


def _text(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, tz=UTC).isoformat(timespec="seconds")
