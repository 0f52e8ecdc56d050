"""How far the snapshots are: one row, written by whoever holds the worker's lease.

Row: SNAPSHOT ‖ "state" → StateRow. It is not listed in the change feed, nor part of any snapshot.
"""

from __future__ import annotations

from typing import Final

import msgspec

from catalog.interface import Reader
from catalog.prefixes import SNAPSHOT
from catalog.records import Codec, Record

STATE_KEY: Final = SNAPSHOT + b"state"
#: The feed's consumer.
CONSUMER: Final = b"snapshots"


class ChainRow(msgspec.Struct, array_like=True, frozen=True):
    """A chain that is being written; `prefix` begins the names of its shards. `position`: all changes of the feed up to
    there are in it. `parts` and `last`: how many there are, and the hash of the last. `cursor`: the last key of the
    base so far; `based` once it is whole; `verified`: so many parts were read back. `sequence`, `time_us`: of the
    newest point, 0 before the first. `changed`: some of it was put anew or deleted since it was written. `whole`: parts
    up to the first point, 0 before it."""

    id: int
    root_key_id: str
    prefix: str
    position: int
    began_us: int
    last: bytes
    parts: int = 0
    cursor: bytes = b""
    based: bool = False
    verified: int = 0
    base_bytes: int = 0
    change_bytes: int = 0
    changes: int = 0
    sequence: int = 0
    time_us: int = 0
    changed: bool = False
    whole: int = 0

    @property
    def to_verify(self) -> int:
        """So many parts have to be read back before it can take over."""
        return self.whole or self.parts

    def retired(self, now_us: int) -> RetiredRow:
        """Nobody needs it any more, from now on."""
        return RetiredRow(self.prefix, self.id, now_us, self.base_bytes + self.change_bytes)


class RetiredRow(msgspec.Struct, array_like=True, frozen=True):
    """A chain whose shards are to be deleted some time after `since_us`; `prefix` begins their names. `chain` 0 stands
    for all that there are under a root key other than the one in force. `size`: its bytes on the nodes, 0 where that is
    not known."""

    prefix: str
    chain: int
    since_us: int
    size: int = 0


class StateRow(Record, tag=1, kw_only=True, frozen=True):
    """`active` is the chain that a restore would take; `building` the one that will take its place. `lineage` grows
    whenever the catalog goes back in time, and `last_chain` is the newest number given out."""

    lineage: int = 0
    last_chain: int = 0
    active: ChainRow | None = None
    building: ChainRow | None = None
    retired: tuple[RetiredRow, ...] = ()


STATE_ROW: Final = Codec(StateRow)


async def read_state(reader: Reader) -> StateRow:
    """The row, or one that says that nothing was begun."""
    data = await reader.get(STATE_KEY)
    return StateRow() if data is None else STATE_ROW.decode(data)
