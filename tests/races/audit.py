"""What must add up when nobody works: every reference leads to bytes, and every byte is referenced.

Walks the rows as they are, with the record codecs alone, so that a mistake of the engine's own walks can't hide itself.
Meant for after a forced compaction and a collection that ran to their ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from catalog.interface import Catalog, Reader
from catalog.keys import prefix_end
from engine import layout, layout_data
from engine.records import (
    EXTENTS_ROW,
    HEAD_ROW,
    LIST_ROW,
    MARKER,
    PART_ROW,
    UPLOAD_ROW,
    VERSION_ROW,
    Version,
)
from engine.records_data import BODY_ROW, SEGMENT_ROW

Rows = dict[bytes, bytes]


async def audit(catalog: Catalog, held: Mapping[bytes, set[bytes]]) -> None:
    """`held`: the locators of the pieces on each node, by its id. Raises AssertionError that names what dangles or
    leaks."""
    kinds = {name: await _rows(catalog, prefix) for name, prefix in _KINDS.items()}
    expected = _references(kinds)
    found = _stored_references(kinds)
    assert found == expected, f"references: {_difference(found, expected)}"
    manifests = set(kinds["manifest"])
    bodies = {target for target in expected if target not in manifests}
    for body in bodies:
        assert body in kinds["body"], f"dangling: a version refers to body {body.hex()}, which has no row"
    for body in kinds["body"]:
        assert body in bodies, f"leaked: nothing refers to body {body.hex()}"
    _audit_bytes(kinds, held)
    for queue in ("queue_body", "queue_segment", "queue_piece"):
        assert not kinds[queue], f"{queue} is not empty"


_KINDS = {
    "head": layout.HEAD,
    "version": layout.VERSION,
    "list": layout.LIST,
    "upload": layout.UPLOAD,
    "part": layout.PART,
    "manifest": layout.MANIFEST,
    "extents": layout.EXTENTS,
    "body": layout_data.BODY,
    "segment": layout_data.SEGMENT,
    "pack": layout_data.PACK,
    "alive": layout_data.ALIVE,
    "reference": layout_data.REFERENCE,
    "queue_body": layout_data.QUEUE_BODY,
    "queue_segment": layout_data.QUEUE_SEGMENT,
    "queue_piece": layout_data.QUEUE_PIECE,
}


async def _rows(catalog: Catalog, prefix: bytes) -> Rows:
    async def look(reader: Reader) -> list[tuple[bytes, bytes]]:
        return await reader.scan(prefix, prefix_end(prefix), limit=1_000_000)

    return {key[len(prefix) :]: data for key, data in await catalog.read(look)}


def _versions(kinds: dict[str, Rows]) -> list[Version]:
    versions = [VERSION_ROW.decode(raw).version for raw in kinds["version"].values()]
    heads = {key: HEAD_ROW.decode(raw).current for key, raw in kinds["head"].items()}
    listed = {
        layout.key_hash(place[: layout.ID], place[layout.ID :]): LIST_ROW.decode(raw).token
        for place, raw in kinds["list"].items()
    }
    shown = {key: head.token for key, head in heads.items() if head is not None and not head.flags & MARKER}
    assert listed == shown, "the listing and the heads differ"
    return versions + [head for head in heads.values() if head is not None]


def _references(kinds: dict[str, Rows]) -> dict[bytes, set[bytes]]:
    """Target -> who refers to it, as versions, manifests and uploads say."""
    expected: dict[bytes, set[bytes]] = defaultdict(set)
    for version in _versions(kinds):
        if version.body or version.manifest:
            expected[version.body or version.manifest].add(version.token)
    for place, raw in kinds["extents"].items():
        manifest = place[: layout.ID]
        assert manifest in expected, f"leaked: nothing refers to manifest {manifest.hex()}"
        for extent in EXTENTS_ROW.decode(raw).extents:
            expected[extent.body].add(layout.part_referrer(manifest, extent.number))
    for place, raw in kinds["part"].items():
        manifest, number = place[:-2], int.from_bytes(place[-2:], "big")
        upload = kinds["upload"].get(manifest)
        assert upload is not None, "leaked: parts of an upload that is gone"
        assert UPLOAD_ROW.decode(upload).completed is None, "leaked: parts of an upload that was completed"
        for extent in PART_ROW.decode(raw).extents:
            expected[extent.body].add(layout.part_referrer(manifest, number))
    return dict(expected)


def _stored_references(kinds: dict[str, Rows]) -> dict[bytes, set[bytes]]:
    found: dict[bytes, set[bytes]] = defaultdict(set)
    for target, first in kinds["alive"].items():
        found[target] = {first} if first else set()
    for key in kinds["reference"]:
        found[key[: layout.ID]].add(key[layout.ID :])
    return dict(found)


def _difference(found: dict[bytes, set[bytes]], expected: dict[bytes, set[bytes]]) -> str:
    lines = []
    for target in sorted(found.keys() | expected.keys()):
        stored, wanted = found.get(target), expected.get(target)
        if stored != wanted:
            state = "dead" if stored is None else "alive"
            names = [sorted(map(bytes.hex, one or ())) for one in (stored, wanted)]
            lines.append(f"{target.hex()}: {state}, stored {names[0]}, should be {names[1]}")
    return "; ".join(lines)


def _audit_bytes(kinds: dict[str, Rows], held: Mapping[bytes, set[bytes]]) -> None:
    segments: set[bytes] = set()
    for body, raw in kinds["body"].items():
        row = BODY_ROW.decode(raw)
        named = [segment for segment, _ in row.segments] + ([row.slice[0]] if row.slice else [])
        for segment in named:
            assert segment in kinds["segment"], f"dangling: body {body.hex()} lies in a segment that is gone"
        segments.update(named)
        if row.slice:
            assert row.slice[0] in kinds["pack"], f"dangling: body {body.hex()} lies in a retired pack"
    for segment in kinds["segment"]:
        assert segment in segments, f"leaked: no body uses segment {segment.hex()}"
    wanted: dict[bytes, set[bytes]] = defaultdict(set)
    for raw in kinds["segment"].values():
        for piece in SEGMENT_ROW.decode(raw).pieces:
            if piece.node:
                wanted[piece.node].add(piece.locator)
    for node, there in held.items():
        assert not wanted[node] - there, f"dangling: node {node.hex()} lacks {wanted[node] - there}"
        assert not there - wanted[node], f"leaked: node {node.hex()} holds {there - wanted[node]}"
