"""Scrub: read every piece of every segment and prove every shard. Feeds `atoll check`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from catalog.interface import Reader
from engine.bodies.store import BodyStore
from engine.errors import Damaged, StorageFull, Unavailable
from engine.layout_data import ID, SEGMENT, prefix_end
from engine.rebuild import rebuild_segment
from engine.segments.proof import Finding, VerifiedSegment
from engine.segments.registry import Segment
from engine.suspicion import record_findings

_PAGE = 256
#: How often a segment is proven that others change meanwhile.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class SegmentCheck:
    """What the scrub found of one segment.

    `findings` is damage, proven; `unwritten` pieces were never written, `unreachable` ones are on nodes that did not
    answer. `sound` pieces are proven whole. `repaired` counts pieces made anew, `lost` says that too few sound shards
    remain of some stripe among the nodes that answer.
    """

    segment_id: bytes
    size: int
    sound: int
    findings: tuple[Finding, ...]
    unwritten: tuple[int, ...]
    unreachable: tuple[int, ...]
    repaired: int = 0
    lost: bool = False
    problem: str = ""


async def count_segments(bodies: BodyStore) -> int:
    """How many segments a scrub will look at, for progress."""
    total, after = 0, SEGMENT
    while True:

        async def page(reader: Reader, after: bytes = after) -> list[tuple[bytes, bytes]]:
            return await reader.scan(after, prefix_end(SEGMENT), limit=5000, keys_only=True)

        rows = await bodies.catalog.read(page, long=True)
        if not rows:
            return total
        total += len(rows)
        after = rows[-1][0] + b"\0"


async def scrub(
    bodies: BodyStore, *, repair: bool = False, now_us: int = 0, after: bytes = b""
) -> AsyncGenerator[SegmentCheck, None]:
    """Check every segment after the id `after`, in order of id. Damage is recorded as suspicion; with `repair` it is
    rebuilt at once."""
    cursor = SEGMENT + after + b"\0" if after else SEGMENT
    while True:

        async def page(reader: Reader, start: bytes = cursor) -> list[tuple[bytes, bytes]]:
            return await reader.scan(start, prefix_end(SEGMENT), limit=_PAGE, keys_only=True)

        rows = await bodies.catalog.read(page)
        for key, _ in rows:
            check = await check_segment(bodies, key[len(SEGMENT) : len(SEGMENT) + ID], repair=repair, now_us=now_us)
            if check is not None:
                yield check
        if len(rows) < _PAGE:
            return
        cursor = rows[-1][0] + b"\0"


async def check_segment(
    bodies: BodyStore, segment_id: bytes, *, repair: bool = False, now_us: int = 0
) -> SegmentCheck | None:
    """Prove every shard of one segment; None if it is gone.

    What is found wrong counts only if the placement is still the one that was read: where a repair, a recode or
    another check was faster, the segment is proven again as it is now.
    """
    check: SegmentCheck | None = None
    for _ in range(_ATTEMPTS):
        segment = await bodies.registry.get(segment_id, fresh=True)
        if segment is None:
            return None
        check = await _prove(bodies, segment)
        if not check.findings and not (repair and check.unwritten):
            return check
        await record_findings(bodies, segment_id, segment.row.generation, check.findings, now_us)
        if repair:
            check = await _repair(bodies, check)
        if check.repaired or not await _changed(bodies, segment):
            return check
    return check


async def _changed(bodies: BodyStore, segment: Segment) -> bool:
    now = await bodies.registry.get(segment.id, fresh=True)
    return now is None or now.row.generation != segment.row.generation


async def _repair(bodies: BodyStore, check: SegmentCheck) -> SegmentCheck:
    try:
        result = await rebuild_segment(bodies, check.segment_id, also=sorted({each.index for each in check.findings}))
    except (Unavailable, Damaged, StorageFull) as error:
        return replace(check, problem=str(error))
    return replace(check, repaired=len(result.rebuilt))


async def _prove(bodies: BodyStore, segment: Segment) -> SegmentCheck:
    shape, n = segment.shape, segment.scheme.n
    verified = VerifiedSegment(bodies.read_tools, segment, report=False)
    unwritten = tuple(index for index in range(n) if not segment.piece(index).node)
    unreachable: list[int] = []
    sound = [0] * shape.stripes
    whole = 0
    for index in range(n):
        if index in unwritten:
            continue
        before = len(verified.findings)
        good = 0
        if await verified.footer(index) is not None:
            for stripe in range(shape.stripes):
                if await verified.shard(index, stripe) is not None:
                    sound[stripe] += 1
                    good += 1
        bodies.counters.pieces_verified += 1
        whole += good == shape.stripes
        if good < shape.stripes and len(verified.findings) == before:
            unreachable.append(index)
    findings = tuple(sorted(verified.findings, key=lambda finding: (finding.index, finding.stripe)))
    return SegmentCheck(
        segment.id,
        segment.row.sealed_length,
        whole,
        findings,
        unwritten,
        tuple(unreachable),
        lost=min(sound) < segment.scheme.k,
    )
