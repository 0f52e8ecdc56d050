"""Writing a chain: runs of its base, what changed since, and reading all of it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from catalog.interface import Catalog, Reader
from core.clock import Clock
from core.crashpoints import reach
from core.workers import HandOver
from engine.errors import EngineError
from engine.layout_data import ROOT
from engine.ports import Placer
from engine.records_data import ROOT_ROW
from engine.snapshots.capture import VIEW_BYTES, base_run, changes_since
from engine.snapshots.keys import SnapshotKeys
from engine.snapshots.parts import Content, Facts, SealedPart, seal_part
from engine.snapshots.rows import ChainRow
from engine.snapshots.survey import Attempt, Source, fetch, survey
from engine.snapshots.writing import ShardWriter

#: Parts read back in one go.
_READ_BACK: Final = 4
#: A view may read so many times VIEW_BYTES of changes where they come faster than they are stored.
_MOST_VIEWS: Final = 16


@dataclass(frozen=True, slots=True)
class RootKeys:
    """The snapshot keys of the root key in force, and its public id."""

    id: str
    keys: SnapshotKeys


class FormerRootKey(EngineError, HandOver):
    """The root key was rotated by another process than this one, which can't make snapshots until it begins anew."""


class NotWhole(EngineError):
    """A chain that was written can't be read back."""


class ChainWriter:
    """Stores parts of chains. What is durable on the nodes is in the row that each call returns; the caller saves it.
    All raise FormerRootKey, and Unavailable or StorageFull where nodes lack."""

    def __init__(self, catalog: Catalog, placer: Placer, clock: Clock, deployment: bytes) -> None:
        self._catalog, self._placer, self._clock, self._deployment = catalog, placer, clock, deployment
        self.shards = ShardWriter(placer)
        self.points = self.parts = self.bytes = 0
        self._read: tuple[int, Sequence[Attempt]] = (0, ())  # a chain, and the way to its last part at that time

    def up(self) -> frozenset[bytes]:
        """The nodes that are up."""
        return frozenset(node.id for node in self._placer.nodes() if self._placer.is_up(node.id))

    def sources(self) -> list[Source]:
        """The nodes that are up, to read from."""
        return [Source(node.name, node.backend) for node in self._placer.nodes() if self._placer.is_up(node.id)]

    async def require_in_force(self, root: RootKeys) -> None:
        """A chain holds what its own root key opens, and nothing of after a rotation."""

        async def get(reader: Reader) -> bytes | None:
            return await reader.get(ROOT)

        data = await self._catalog.read(get)
        if data is not None and (in_force := ROOT_ROW.decode(data).key_id) != root.id:
            raise FormerRootKey(
                f"the root key {in_force} is in force, this process has {root.id}: start it again with the new one"
            )

    async def base(self, lineage: int, chain: ChainRow, root: RootKeys) -> ChainRow:
        """One run of the base."""
        content, cursor, ended = await base_run(self._catalog, chain.cursor)
        facts = Facts(False, lineage, chain.position, self._clock.now_us())
        chain, size = await self._write(chain, facts, content, root)
        reach("snapshot-base")
        return replace(chain, cursor=cursor, based=ended, base_bytes=chain.base_bytes + size)

    async def first_point(self, lineage: int, chain: ChainRow, root: RootKeys) -> ChainRow:
        """What changed while the base was written, or some of it."""
        chain, point = await self._extend(lineage, chain, root, even_none=True)
        return replace(chain, whole=chain.parts) if point else chain

    async def to_a_point(self, lineage: int, chain: ChainRow, root: RootKeys) -> ChainRow:
        """All that changed since. Each view reads more than the one before, so that one of them comes to the feed's end
        also where changes come faster than they are stored. Raises FeedTrimmed."""
        views = 1
        while True:
            chain, point = await self._extend(lineage, chain, root, most=views * VIEW_BYTES)
            if point:
                return chain
            views = min(2 * views, _MOST_VIEWS)

    async def _extend(
        self, lineage: int, chain: ChainRow, root: RootKeys, *, even_none: bool = False, most: int = VIEW_BYTES
    ) -> tuple[ChainRow, bool]:
        """What changed since the chain's last part, as far as one view goes; whether it ends in a point."""
        now = self._clock.now_us()
        changes = await changes_since(self._catalog, chain.position, even_none=even_none, most=most)
        for number, content in enumerate(changes.contents, 1):
            last = changes.point and number == len(changes.contents)
            facts = Facts(last, lineage, changes.position if last else chain.position, now)
            chain, size = await self._write(chain, facts, content, root)
            chain = replace(
                chain,
                changes=chain.changes + 1,
                change_bytes=chain.change_bytes + size,
                changed=chain.changed or bool(content.puts or content.deletes),
            )
            if last:
                chain = replace(chain, sequence=facts.sequence, time_us=now)
                self.points += 1
        if changes.contents or not changes.point:
            chain = replace(chain, position=changes.position)
            reach("snapshot-changes")
        return chain, changes.point

    async def _write(self, chain: ChainRow, facts: Facts, content: Content, root: RootKeys) -> tuple[ChainRow, int]:
        await self.require_in_force(root)  # after the content was read
        part: SealedPart = seal_part(root.keys, self._deployment, chain.id, chain.parts, facts, chain.last, content)
        size = await self.shards.write(root.keys, self._deployment, part)
        self.parts += 1
        self.bytes += size
        return replace(chain, parts=chain.parts + 1, last=part.hash), size

    async def read_back(self, chain: ChainRow, root: RootKeys) -> ChainRow:
        """Some parts of those up to the first point, as a restore would read them, and all their shards. Raises
        NotWhole."""
        if self._read[0] != chain.id:
            found = await survey(self.sources(), root.keys, self._deployment, only_chain=chain.id)
            path = found.best.path() if found.best is not None else []
            if chain.last not in [attempt.header.part_hash for attempt in path]:
                raise NotWhole("; ".join(found.findings) or "its newest point is not found")
            self._read = (chain.id, path)
        end = min(chain.verified + _READ_BACK, chain.to_verify)
        for attempt in self._read[1][chain.verified : end]:
            bad: list[str] = []
            try:
                await fetch(root.keys, self._deployment, attempt, bad, every=True)
            except EngineError as error:
                raise NotWhole(str(error)) from None
            if bad or not attempt.full:
                raise NotWhole("; ".join(bad) or f"part {attempt.name.part} lacks shards")
        reach("snapshot-verified")
        return replace(chain, verified=end)
