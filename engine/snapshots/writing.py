"""Parts on their way to nodes, and old ones away from them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from blake3 import blake3

from backends.errors import BackendError, NoSpace
from backends.interface import Entry
from core.buffers import Buffer
from engine.classes import StorageClass, StorageClasses
from engine.errors import StorageFull, Unavailable
from engine.ports import Node, Placer
from engine.segments.write import Target, choose_target
from engine.snapshots.keys import SnapshotKeys, new_attempt
from engine.snapshots.parts import SealedPart, shards_of

log = logging.getLogger("atoll.snapshots")

#: Seconds that a node may take for a shard, or to name the next entry of a list.
PATIENCE: Final = 30.0
#: A part up to this long is written with the narrowest scheme: fewer files, and each a node's smallest.
SMALL: Final = 64 << 10

_ATTEMPTS: Final = 4
_SIDE_BY_SIDE: Final = 16


class ShardSource:
    """A header and a shard as the `PieceSource` that a backend reads."""

    def __init__(self, header: bytes, shard: Buffer) -> None:
        self._chunks: Sequence[Buffer] = (header, shard)
        self._digest = blake3(header).digest()

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        for chunk in self._chunks:
            yield chunk

    def digest(self) -> bytes:
        """BLAKE3 of the header, which holds the shard's own hash."""
        return self._digest


@dataclass
class ShardWriter:
    """Stores parts so that each survives the loss of any m domains or, where there are too few, of as many as objects
    survive."""

    placer: Placer
    classes: StorageClasses = field(default_factory=StorageClasses)

    @property
    def spare(self) -> int:
        """How many shards of a part are more than what a restore needs: m of every scheme, for all must be durable."""
        return self.classes.get("STANDARD").full.m

    def _target(self, length: int, excluded: Collection[bytes] = ()) -> Target:
        """Where a part of `length` sealed bytes can go. Raises as `choose_target`."""
        standard = self.classes.get("STANDARD")
        ladder = standard.ladder[-1:] if length <= SMALL else standard.ladder
        try:
            return choose_target(self.placer, StorageClass("SNAPSHOT", ladder, self.spare), length, tuple(excluded))
        except Unavailable:
            ladder = standard.ladder
            return choose_target(
                self.placer, StorageClass("SNAPSHOT", ladder, standard.margin), length, tuple(excluded)
            )

    def lacks_room(self) -> bool:
        """Whether not even a small part could be stored, for want of space alone."""
        try:
            self._target(SMALL)
        except StorageFull:
            return True
        except Unavailable:
            return False
        return False

    def stretch(self, length: int) -> float:
        """How many bytes nodes take for each one of a part of `length`. Raises as `choose_target`."""
        scheme = self._target(length).scheme
        return scheme.n / scheme.k

    async def write(self, keys: SnapshotKeys, deployment: bytes, part: SealedPart) -> int:
        """Store all shards of a part, durably; their bytes. Raises Unavailable or StorageFull where nodes lack."""
        lists = [node for node in self.placer.nodes() if node.backend.properties().supports_list]
        excluded = {node.id for node in self.placer.nodes()} - {node.id for node in lists}
        for _ in range(_ATTEMPTS):
            target = self._target(len(part.sealed), excluded)
            shards = await asyncio.to_thread(shards_of, keys, deployment, part, target.scheme, new_attempt())
            puts = [self._put(node, *shard) for node, shard in zip(target.nodes, shards, strict=True)]
            errors = await asyncio.gather(*puts)
            if not any(errors):
                return sum(len(header) + memoryview(shard).nbytes for _, header, shard in shards)
            for node, shard, error in zip(target.nodes, shards, errors, strict=True):
                if error is None:
                    await self._delete(node, shard[0])
                elif not isinstance(error, NoSpace):  # a full node is passed over by the placer, who knows why
                    excluded.add(node.id)
        raise Unavailable(f"a part of a snapshot could not be stored in {_ATTEMPTS} attempts")

    async def _put(self, node: Node, name: str, header: bytes, shard: Buffer) -> Exception | None:
        try:
            async with asyncio.timeout(PATIENCE):
                await node.backend.put(name, ShardSource(header, shard))
        except (BackendError, OSError, TimeoutError) as error:
            self.placer.observe(node.id, ok=False, seconds=0.0, error=error)
            log.warning("a snapshot's shard was not stored on node %s: %s", node.name, error)
            return error
        return None

    async def _delete(self, node: Node, name: str) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                await node.backend.delete(name.encode())
        except (BackendError, OSError, TimeoutError) as error:
            self.placer.observe(node.id, ok=False, seconds=0.0, error=error)
            return False
        return True

    async def names(self, prefix: str) -> tuple[dict[bytes, list[str]], bool]:
        """Names that begin with `prefix`, by node, and whether every node was heard."""
        found: dict[bytes, list[str]] = {}
        nodes = [node for node in self.placer.nodes() if node.backend.properties().supports_list]
        for node in nodes:
            if not self.placer.is_up(node.id):
                continue
            with suppress(BackendError, OSError, TimeoutError):
                found[node.id] = [entry.name for entry in await listed(node.backend.list(prefix))]
        return found, len(found) == len(nodes)

    async def delete(self, names: Iterable[tuple[bytes, str]]) -> bool:
        """Delete shards on nodes; False when some are left."""
        todo = [(node, name) for node_id, name in names if (node := self.placer.node(node_id)) is not None]
        whole = True
        for start in range(0, len(todo), _SIDE_BY_SIDE):
            batch = todo[start : start + _SIDE_BY_SIDE]
            whole &= all(await asyncio.gather(*(self._delete(node, name) for node, name in batch)))
        return whole


async def listed(entries: AsyncIterator[Entry]) -> list[Entry]:
    """All entries. Raises TimeoutError where the node does not go on, and what the backend raises."""
    found: list[Entry] = []
    steps = aiter(entries)
    while True:
        try:
            async with asyncio.timeout(PATIENCE):
                found.append(await anext(steps))
        except StopAsyncIteration:
            return found
