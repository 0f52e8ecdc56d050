"""The nodes of a deployment: a row for each in the catalog, which every gateway follows.

Rows: GATEWAY ‖ "node/" ‖ node id → name, domain and the folder where it was added. A node is a folder with a signed
marker; which folder leads to it is each gateway's own matter: one of its settings' `nodes` whose marker says so, else
the one in the row (relative: below the data folder). A folder that isn't there is a node that is down, never an empty
one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from backends.decorators import MeterBackend
from backends.disk import DiskBackend, NodeMarker, initialise, read_marker
from backends.errors import BackendError
from catalog.interface import Catalog, Reader, Transaction
from catalog.keys import prefix_end
from catalog.prefixes import GATEWAY
from catalog.records import Codec, Record
from core.errors import AtollError, StartRefused
from core.ids import new_id
from core.workers import WorkerReport, WorkerState
from engine.placement import LocalPlacer
from engine.ports import Node
from gateway.wiring.deployment import Deployment, change_in

log = logging.getLogger("atoll.gateway")

_ROWS: Final = GATEWAY + b"node/"
_MOST: Final = 10_000
_OPEN_FILES: Final = 1024  # descriptors kept for reads, each node: small packs are many until they are compacted


class NodeRefused(AtollError):
    """A node can't be added or removed so; the text says why."""


class NodeRow(Record, tag=1, kw_only=True, frozen=True):
    """One node. `leaving`: it gets no new pieces, and goes when it has none left; `lost`: it won't come back, so what
    should be deleted on it is forgotten."""

    name: str
    domain: str
    folder: str
    added_us: int = 0
    leaving: bool = False
    lost: bool = False


NODE_ROW: Final = Codec(NodeRow)


def node_key(node_id: bytes) -> bytes:
    """The key of a node's row."""
    return _ROWS + node_id


async def read_nodes(reader: Reader) -> dict[bytes, NodeRow]:
    """Every node by its id."""
    rows = await reader.scan(_ROWS, prefix_end(_ROWS), limit=_MOST)
    return {key[len(_ROWS) :]: NODE_ROW.decode(value) for key, value in rows}


class Nodes:
    """This gateway's way to the deployment's nodes. `open` once, `close` once; between, `follow` brings it up to date.

    `placer`, `folders` (by node id) and `meters` (by name) are what the others look at.
    """

    def __init__(
        self,
        catalog: Catalog,
        deployment: Deployment,
        *,
        data: Path,
        configured: tuple[Path, ...],
        floor: int,
        pool: Executor,
        shared: bool,
        now_us: Callable[[], int],
    ) -> None:
        """`shared`: other processes have the nodes' folders open, too."""
        self._catalog, self._deployment = catalog, deployment
        self._data = data.absolute()
        self._configured = tuple(path.absolute() for path in configured)
        self._floor, self._pool, self._shared, self._now_us = floor, pool, shared, now_us
        self._rows: dict[bytes, NodeRow] = {}
        self._found: dict[bytes, Path] = {}  # by the markers of configured folders
        self.placer = LocalPlacer([])
        self.folders: dict[bytes, Path] = {}
        self.meters: dict[str, MeterBackend] = {}

    async def open(self) -> None:
        """Make the nodes if there are none, and open all. Raises StartRefused."""
        try:
            if not await self._catalog.read(read_nodes):
                await self._begin()
        except BackendError as error:
            raise StartRefused(f"cannot make the embedded nodes: {error}") from error
        await self.follow()
        await self.placer.probe(force=True)

    async def close(self) -> None:
        """Let go of all folders."""
        await asyncio.gather(*(meter.close() for meter in self.meters.values()))

    # --- which there are ---

    async def _begin(self) -> None:
        """The rows of a deployment's first nodes, which are made now unless an earlier version did: once, for a folder
        that is gone later is a node that is down. Raises BackendError, StartRefused."""
        row = self._deployment.row
        folders = [self._data / "nodes" / str(number) for number in range(1, len(row.node_ids) + 1)]
        if not row.nodes_made:
            folders = list(self._configured) or folders
            if len(folders) != len(row.node_ids):
                raise StartRefused(f"the first start began with {len(row.node_ids)} nodes; name as many")
            await asyncio.to_thread(self._initialise, dict(zip(row.node_ids, folders, strict=True)))
        rows = {
            node_id: NodeRow(name=f"disk-{number}", domain=f"disk-{number}", folder=self._hint(folder))
            for number, (node_id, folder) in enumerate(zip(row.node_ids, folders, strict=True), 1)
        }

        async def enter(txn: Transaction) -> None:
            for node_id, node in rows.items():
                txn.put(_ROWS + node_id, NODE_ROW.encode(node))
            await change_in(txn, lambda old: replace(old, nodes_made=True))

        await self._catalog.transact(enter)

    def _initialise(self, folders: dict[bytes, Path]) -> None:
        for node_id, folder in folders.items():
            initialise(folder, self._marker(node_id), self._deployment.marker_key)

    def _marker(self, node_id: bytes) -> NodeMarker:
        return NodeMarker(node_id, self._deployment.row.id)

    def _hint(self, folder: Path) -> str:
        """How a row names a folder: a data folder that nobody shares may be moved with its nodes."""
        if self._catalog.local and folder.is_relative_to(self._data):
            return str(folder.relative_to(self._data))
        return str(folder)

    async def follow(self) -> int:
        """Bring this gateway up to date with the rows and its folders; how many nodes came, went or changed."""
        rows = await self._catalog.read(read_nodes)
        await self._look_for_folders(rows)
        changed = 0
        for node_id in self._rows.keys() - rows.keys():
            await self._forget(node_id)
            changed += 1
        for node_id, row in sorted(rows.items(), key=lambda item: _natural(item[1].name)):
            folder = self._found.get(node_id) or self._data / row.folder
            if self.folders.get(node_id) != folder:
                await self._adopt(node_id, row, folder)
                changed += 1
            changed += self.placer.leaving(node_id) != row.leaving
            self.placer.set_leaving(node_id, row.leaving)
        self._rows = rows
        return changed

    async def _look_for_folders(self, rows: dict[bytes, NodeRow]) -> None:
        """Read the markers of configured folders that are not known to be a node's yet."""
        known = set(self._found.values())
        for path in self._configured:
            if path in known:
                continue
            try:
                marker = await asyncio.to_thread(read_marker, path, self._deployment.marker_key)
            except BackendError:
                continue  # not mounted now, or no node yet
            if marker.deployment_id == self._deployment.row.id and marker.node_id in rows:
                self._found[marker.node_id] = path

    async def _adopt(self, node_id: bytes, row: NodeRow, folder: Path) -> None:
        backend = MeterBackend(
            DiskBackend(
                folder,
                marker=self._marker(node_id),
                key=self._deployment.marker_key,
                pool=self._pool,
                floor=self._floor,
                open_files=_OPEN_FILES,
                shared=self._shared,
            )
        )
        with contextlib.suppress(BackendError):  # then it is down, and probed again and again
            await backend.open()
        former = self.meters.get(row.name)
        self.folders[node_id] = folder
        self.meters[row.name] = backend
        self.placer.add(Node(node_id, row.name, row.domain, backend))
        if former is not None:
            await former.close()

    async def _forget(self, node_id: bytes) -> None:
        self.placer.remove(node_id)
        self.folders.pop(node_id, None)
        self._found.pop(node_id, None)
        meter = self.meters.pop(self._rows[node_id].name, None)
        if meter is not None:
            await meter.close()

    # --- changes ---

    async def add(self, folder: Path, *, name: str = "", domain: str = "") -> NodeRow:
        """Make `folder` a node of the deployment, or take in one that was made before. Raises NodeRefused, also for a
        folder that is anything else. `folder` is absolute."""
        rows = await self._catalog.read(read_nodes)
        try:
            node_id = (await asyncio.to_thread(read_marker, folder, self._deployment.marker_key)).node_id
        except BackendError:
            node_id = new_id()
        if node_id in rows:
            raise NodeRefused(f"{folder} is the node {rows[node_id].name} already")
        try:
            await asyncio.to_thread(self._initialise, {node_id: folder})
        except BackendError as error:
            raise NodeRefused(str(error)) from error

        async def enter(txn: Transaction) -> NodeRow:
            names = {row.name for row in (await read_nodes(txn)).values()}
            numbers = (f"disk-{number}" for number in range(1, _MOST))
            chosen = name or next(free for free in numbers if free not in names)
            if chosen in names:
                raise NodeRefused(f"a node is named {chosen} already")
            row = NodeRow(
                name=chosen, domain=domain or chosen, folder=self._hint(folder), added_us=self._now_us()
            )  # fmt: skip
            txn.put(_ROWS + node_id, NODE_ROW.encode(row))
            return row

        row = await self._catalog.transact(enter)
        await self.follow()
        return row

    async def remove(self, name: str, *, lost: bool = False) -> None:
        """Give a node no new pieces, and let it go once what it holds is elsewhere. Raises NodeRefused."""

        async def mark(txn: Transaction) -> None:
            for node_id, row in (await read_nodes(txn)).items():
                if row.name == name:
                    txn.put(_ROWS + node_id, NODE_ROW.encode(replace(row, leaving=True, lost=lost)))
                    return
            raise NodeRefused(f"no node is named {name}")

        await self._catalog.transact(mark)
        await self.follow()

    async def forget(self, node_id: bytes) -> None:
        """Remove the row of a node that holds nothing any more."""

        async def forget(txn: Transaction) -> None:
            txn.delete(_ROWS + node_id)

        await self._catalog.transact(forget)
        await self.follow()

    def leaving(self) -> list[Node]:
        """The nodes that are to go."""
        return [node for node in self.placer.nodes() if self.placer.leaving(node.id)]

    def lost(self, node_id: bytes) -> bool:
        """Whether an operator said that a node won't come back."""
        row = self._rows.get(node_id)
        return row is not None and row.lost


class NodeFollower:
    """Worker that keeps a gateway up to date with the nodes' rows, which others change. Named `nodes`."""

    name = "nodes"
    interval = 1.0

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._changes = 0

    async def turn(self) -> WorkerState:
        """One look."""
        self._changes += await self._nodes.follow()
        return WorkerState.IDLE

    def report(self) -> WorkerReport:
        return WorkerReport(
            progress=f"{len(self._nodes.folders)} nodes", counters={"changes": self._changes}
        )  # fmt: skip


def _natural(name: str) -> tuple[str, int, str]:
    """So that disk-10 comes behind disk-9."""
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or 0), name
