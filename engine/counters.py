"""Counts of every mechanism of the data path: tests assert them, metrics export them."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class EngineCounters:
    """Since the process started. Plain integers, touched by the event loop only."""

    # writing
    bodies_inline: int = 0
    bodies_packed: int = 0
    bodies_staged: int = 0  # of the packed ones: acknowledged from the catalog, packed afterwards
    bodies_segmented: int = 0
    bodies_discarded: int = 0
    bytes_written: int = 0  # plaintext of stored bodies
    segments_written: int = 0
    segments_narrow: int = 0  # written with a narrower scheme than the class's first
    segments_short: int = 0  # acknowledged with fewer than n pieces
    packs_written: int = 0
    pieces_failed: int = 0  # puts that a node refused or failed
    pieces_slow: int = 0  # puts given up because the node was slower than the bound
    # reading
    bytes_read: int = 0  # plaintext handed out
    shard_reads: int = 0
    degraded_reads: int = 0  # windows answered without one of their data pieces
    decodes: int = 0
    hedges: int = 0
    hedge_wins: int = 0
    frame_failures: int = 0  # frames that did not open
    verified_reads: int = 0  # windows read again with every shard checked against its footer
    shard_mismatches: int = 0
    footer_failures: int = 0
    pieces_missing: int = 0  # reads answered with not found, or cut short
    relocations: int = 0  # bodies found elsewhere after not found (compacted meanwhile)
    damaged_reads: int = 0  # reads that no combination of shards could answer
    # health
    reports: int = 0
    reports_dropped: int = 0  # the report queue was full
    suspicions: int = 0  # damage proven and recorded
    acquittals: int = 0  # reports that did not prove
    repairs: int = 0  # segments rebuilt
    pieces_rebuilt: int = 0
    recodes: int = 0
    # settling
    bodies_settled: int = 0  # moved from the catalog into packs
    # collection
    compactions: int = 0  # packs retired by compaction
    bodies_moved: int = 0
    bodies_collected: int = 0
    segments_collected: int = 0
    pieces_collected: int = 0
    pieces_unreachable: int = 0  # deletions kept for a node that does not answer
    epochs_collected: int = 0
    # scrub
    pieces_verified: int = 0

    def snapshot(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}
