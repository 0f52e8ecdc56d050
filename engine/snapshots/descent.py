"""Which of several catalogs of one deployment a restore takes: the one that serves, whatever the others have left.

A catalog may go back in time: restored from a backup, put back from an image of its disk, or taken into use again after
a restored one was tried. Sequences tell nothing then, so points are ordered by their *lineage* first. Before a process
writes its first part it looks at what nodes hold, and when some of it is newer than its catalog, it takes a lineage
above all of that, with chains of its own.
"""

from __future__ import annotations

from msgspec.structs import replace

from engine.snapshots.rows import StateRow
from engine.snapshots.survey import Survey


def outrank(state: StateRow, found: Survey, sequence: int, now_us: int) -> StateRow:
    """The state to go on with; the same object where nothing that was `found` is newer than the catalog at
    `sequence`, which was asked for afterwards."""
    newest = found.newest
    if newest is None or (newest.lineage, newest.sequence) <= (state.lineage, sequence):
        return state
    # Without their size, which is more than this catalog knows: they go in time, not to make room.
    chains = [chain for chain in (state.active, state.building) if chain is not None]
    dropped = tuple(replace(chain.retired(now_us), size=0) for chain in chains)
    return StateRow(
        lineage=max(state.lineage, newest.lineage) + 1,
        last_chain=max(state.last_chain, *found.attempts),
        retired=(*state.retired, *dropped),
    )
