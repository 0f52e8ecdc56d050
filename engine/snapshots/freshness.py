"""How far behind the newest snapshot is, told by the catalog's own rows: any gateway can say it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from catalog.feed import FEED_ROW, TRIMMED_KEY
from catalog.interface import Catalog, Reader
from catalog.keys import prefix_end, read_u64, u64
from catalog.prefixes import FEED
from core.clock import Clock
from engine.snapshots.rows import ChainRow, StateRow, read_state

#: Pieces wait for a snapshot that no longer needs them for so many seconds, as long as the feed can tell; then room is
#: made all the same. Long, because the newest point names packs that were compacted since: without their pieces a
#: restore lacks objects that were never deleted.
PATIENCE: Final = 86_400.0
_LEAST: Final = 0.001  # 0 is kept for what no change waits for, whatever clocks say


@dataclass(frozen=True, slots=True)
class Gap:
    """The first change that no snapshot shows: its sequence and time. Both 0 where it can't be told, as before the
    first snapshot."""

    sequence: int
    time_us: int


async def find_gap(reader: Reader, state: StateRow) -> Gap | None:
    """None when the newest point shows everything."""
    if state.active is None:
        return Gap(0, 0)
    position = state.active.position
    trimmed = await reader.get(TRIMMED_KEY)
    if trimmed is not None and int.from_bytes(trimmed, "big") > position:
        return Gap(0, 0)
    rows = await reader.scan(FEED + u64(position + 1), prefix_end(FEED), limit=1)
    if not rows:
        return None
    key, value = rows[0]
    return Gap(read_u64(key, 1)[0], FEED_ROW.decode(value).time_us)


@dataclass(frozen=True, slots=True)
class Freshness:
    """`exists`: there is a point to restore. `lag`: seconds for which the oldest change waits that no point shows; 0
    when all is shown. `point_us`, `sequence`: of the newest point. `bytes` on the nodes, `parts` and `root_key_id`,
    the key that it opens with, are of its chain; `building` tells that the next one is under way."""

    exists: bool = False
    lag: float = 0.0
    point_us: int = 0
    sequence: int = 0
    parts: int = 0
    bytes: int = 0
    root_key_id: str = ""
    building: bool = False

    @classmethod
    async def look(cls, catalog: Catalog, clock: Clock) -> Freshness:
        """As of now."""

        async def read(reader: Reader) -> tuple[StateRow, Gap | None]:
            state = await read_state(reader)
            return state, await find_gap(reader, state)

        state, gap = await catalog.read(read)
        chain = state.active or ChainRow(0, "", "", 0, 0, b"")
        lag = 0.0
        if gap is not None and chain.time_us:
            lag = max(_LEAST, (clock.now_us() - (gap.time_us or chain.time_us)) / 1e6)
        return cls(
            exists=state.active is not None,
            lag=lag,
            point_us=chain.time_us,
            sequence=chain.sequence,
            parts=chain.parts,
            bytes=chain.base_bytes + chain.change_bytes,
            root_key_id=chain.root_key_id,
            building=state.building is not None,
        )

    def text(self) -> str:
        """For a person."""
        if not self.exists:
            return "no snapshot yet"
        under_way = "; the next base is being written" if self.building else ""
        state = "all changes are in it" if not self.lag else f"{self.lag:.1f} s behind"
        return f"{state}: {self.parts} parts, {self.bytes} bytes{under_way}"


class Cover:
    """Whether snapshots have passed a commit: pieces that the newest point may name must not be deleted before.

    A restore takes the catalog back to that point; what was released or moved after it is still named there. Only
    where the nodes are `full`, so that no snapshot could be stored, room is made first.
    """

    def __init__(self, catalog: Catalog, clock: Clock, *, full: Callable[[], bool], patience: float = PATIENCE) -> None:
        self._catalog = catalog
        self._clock = clock
        self._full = full
        self._patience = patience
        self._began = clock.monotonic()

    async def __call__(self, sequence: int) -> bool:
        """Whether every commit up to `sequence` is in a snapshot, or has waited for one for too long."""

        async def read(reader: Reader) -> Gap | None:
            return await find_gap(reader, await read_state(reader))

        gap = await self._catalog.read(read)
        if gap is None or gap.sequence > sequence or self._full():
            return True
        if not gap.time_us:
            return self._clock.monotonic() - self._began > self._patience
        return (self._clock.now_us() - gap.time_us) / 1e6 > self._patience


#: What collection asks before it deletes pieces.
Covers = Callable[[int], Awaitable[bool]]
