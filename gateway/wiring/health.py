"""The health of objects as `status` shows it: what is damaged, what is short of pieces, what waits for collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catalog.interface import Reader
from catalog.keys import prefix_end
from engine.layout_data import QUEUE_BODY, QUEUE_SEGMENT, SHORT, SUSPECT, parse_suspect_key
from engine.records_data import SUSPECT_ROW

if TYPE_CHECKING:
    from gateway.wiring.build import Gateway

_COUNTED = 10_000  # rows counted at most: status must stay quick
_NAMED = 50


async def health(gateway: Gateway) -> dict[str, Any]:
    """`state` is `damaged` (a proven wrong or missing piece), `degraded` (short segments, nodes down) or `healthy`."""

    async def look(reader: Reader) -> tuple[dict[str, int], list[tuple[bytes, bytes]]]:
        counts: dict[str, int] = {}
        for name, prefix in (
            ("suspect_shards", SUSPECT),
            ("short_segments", SHORT),
            ("bodies_to_collect", QUEUE_BODY),
            ("segments_to_collect", QUEUE_SEGMENT),
        ):
            rows = await reader.scan(prefix, prefix_end(prefix), limit=_COUNTED, keys_only=True)
            counts[name] = len(rows)
        return counts, list(await reader.scan(SUSPECT, prefix_end(SUSPECT), limit=_NAMED))

    counts, suspects = await gateway.catalog.read(look, long=True)
    down = sum(not gateway.placer.is_up(node.id) for node in gateway.placer.nodes())
    state = "damaged" if counts["suspect_shards"] else "degraded" if counts["short_segments"] or down else "healthy"
    return {"state": state, "counts": counts, "damage": [await _name(gateway, *row) for row in suspects]}


async def _name(gateway: Gateway, key: bytes, value: bytes) -> str:
    segment_id, index, stripe = parse_suspect_key(key)
    segment = await gateway.bodies.registry.get(segment_id)
    node = gateway.placer.node(segment.piece(index).node) if segment is not None else None
    name = node.name if node is not None else "a node that is not known"
    return f"segment {segment_id.hex()}, piece {index} on {name}, stripe {stripe}: {SUSPECT_ROW.decode(value).kind}"
