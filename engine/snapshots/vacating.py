"""Nodes that are to go: they may only once no snapshot that a restore would take lies on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from backends.errors import BackendError
from catalog.interface import Catalog
from core.ids import SNAPSHOT_NAMES, prefix_of_snapshot
from engine.ports import Node
from engine.snapshots.keys import SnapshotKeys
from engine.snapshots.rows import read_state
from engine.snapshots.writing import ShardWriter, listed

_MOST: Final = 1000  # shards deleted in one call


class Vacating:
    """Asked for a leaving node whose pieces of objects are gone. The worker begins a chain that has nothing on leaving
    nodes; when it has taken over, what other chains left there is deleted."""

    def __init__(self, catalog: Catalog, writer: ShardWriter, keys: Callable[[], SnapshotKeys]) -> None:
        self._catalog = catalog
        self._writer = writer
        self._keys = keys

    async def __call__(self, node: Node) -> bool:
        """Whether the node holds nothing of snapshots any more."""
        state = await self._catalog.read(read_state)
        if state.active is None:
            return False
        try:
            names = [entry.name for entry in await listed(node.backend.list(SNAPSHOT_NAMES))]
        except (BackendError, OSError, TimeoutError):
            return False
        keys = self._keys()
        needed = {(chain.prefix, chain.id) for chain in (state.active, state.building) if chain is not None}
        prefixes = {prefix for prefix, _ in needed}
        for text in names:
            name = keys.read_name(text)
            if (keys.prefix, name.chain) in needed if name is not None else prefix_of_snapshot(text) in prefixes:
                return False
        gone = await self._writer.delete([(node.id, text) for text in names[:_MOST]])
        return gone and len(names) <= _MOST
