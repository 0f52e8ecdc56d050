"""Manifests of more than one body: written once, shared by copies, looked up by offset or part number.

Extents and parts lie in chunk rows keyed by where they end, so one scan of one row finds the chunk that holds an offset
or a part number, whatever the manifest's size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from catalog.interface import Reader, Transaction
from catalog.keys import prefix_end
from engine.layout import EXTENTS, MANIFEST, PARTS, extents_key, parts_key
from engine.records import (
    EXTENTS_ROW,
    MANIFEST_ROW,
    PARTS_ROW,
    Extent,
    ExtentsRow,
    ManifestRow,
    PartEntry,
    PartRow,
    PartsRow,
    unpack_etag,
)
from engine.types import Part

#: Extents or parts in one row.
CHUNK = 256


def write(txn: Transaction, manifest: bytes, parts: Sequence[tuple[int, PartRow]]) -> int:
    """Put the rows of a manifest made of `parts` (number, row), in order. Returns its size in bytes."""
    position = 0
    entries: list[PartEntry] = []
    extents: list[Extent] = []
    first = 0  # where the first of `extents` begins
    end = 0
    for number, part in parts:
        entries.append(PartEntry(number, position, part.size, part.etag, part.checksums, part.modified_us))
        position += part.size
        for extent in part.extents:
            extents.append(extent)
            end += extent.length
            if len(extents) == CHUNK:
                _put_extents(txn, manifest, first, end, extents)
                extents, first = [], end
    if extents:
        _put_extents(txn, manifest, first, end, extents)
    for start in range(0, len(entries), CHUNK):
        run = tuple(entries[start : start + CHUNK])
        txn.put(parts_key(manifest, run[-1].number), PARTS_ROW.encode(PartsRow(parts=run)))
    txn.put(MANIFEST + manifest, MANIFEST_ROW.encode(ManifestRow(size=position, parts=len(entries))))
    return position


def _put_extents(txn: Transaction, manifest: bytes, first: int, end: int, extents: Iterable[Extent]) -> None:
    # An empty last part begins and ends where the one before ends: its extent may share a chunk, or its chunk's key may
    # be the same as the chunk's before; one byte more keeps the two apart and is never looked up.
    last = end if end > first else end + 1
    txn.put(extents_key(manifest, last), EXTENTS_ROW.encode(ExtentsRow(offset=first, extents=tuple(extents))))


async def find_extents(reader: Reader, manifest: bytes, offset: int) -> ExtentsRow | None:
    """The chunk that holds the byte at `offset`; None at or after the end."""
    rows = await reader.scan(extents_key(manifest, offset + 1), prefix_end(EXTENTS + manifest), limit=1)
    return EXTENTS_ROW.decode(rows[0][1]) if rows else None


async def find_part(reader: Reader, manifest: bytes, number: int) -> PartEntry | None:
    rows = await reader.scan(parts_key(manifest, number), prefix_end(PARTS + manifest), limit=1)
    if rows:
        for entry in PARTS_ROW.decode(rows[0][1]).parts:
            if entry.number == number:
                return entry
    return None


async def list_parts(reader: Reader, manifest: bytes, after: int, limit: int) -> list[PartEntry]:
    """Up to `limit` parts with numbers > `after`."""
    found: list[PartEntry] = []
    end = prefix_end(PARTS + manifest)
    rows = await reader.scan(parts_key(manifest, after + 1), end, limit=limit // CHUNK + 2)
    for _, raw in rows:
        found.extend(entry for entry in PARTS_ROW.decode(raw).parts if entry.number > after)
    return found[:limit]


def part_value(entry: PartEntry) -> Part:
    return Part(entry.number, entry.size, unpack_etag(entry.etag), entry.checksums, entry.modified_us)
