"""Pieces that no row names: uploads that were cut off, and what a process wrote that was declared dead.

They carry their writer's epoch in their name. Once that epoch is marked dead its gateway can't commit any more, so
whatever of it no segment references is superfluous.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from backends.errors import BackendError
from backends.interface import Entry
from catalog.interface import Reader
from core.crashpoints import reach
from core.ids import is_snapshot_name
from engine.bodies.store import BodyStore
from engine.layout_data import SEGMENT, prefix_end
from engine.ports import Node
from engine.records_data import SEGMENT_ROW

log = logging.getLogger("atoll.engine")

#: Seconds that a node may take to delete some pieces, or to name the next one of a list.
PATIENCE = 30.0
_BATCH = 256
#: A name of `engine.segments.write.piece_name`, whose first half is an epoch.
_PIECE_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{32}")


class Sweeping:
    """Goes through the nodes for pieces of dead epochs, and hands those without rows to `delete`."""

    def __init__(self, bodies: BodyStore, delete: Callable[[Node, Sequence[bytes]], Awaitable[None]]) -> None:
        self._bodies = bodies
        self._delete = delete
        self._swept: dict[int, set[bytes]] = {}  # dead epoch -> nodes whose pieces were looked through

    async def unknown_epochs(self) -> None:
        """Take epochs that only pieces tell of for dead ones."""
        found: set[int] = set()
        for node in self._bodies.placer.nodes():
            if not self._bodies.placer.is_up(node.id) or not node.backend.properties().supports_list:
                continue
            try:
                async with aclosing(_listed(node)) as entries:
                    async for entry in entries:
                        if _PIECE_NAME.fullmatch(entry.name) and not is_snapshot_name(entry.name):
                            found.add(int(entry.name[:16], 16))
            except (BackendError, OSError, TimeoutError) as error:
                self._bodies.placer.observe(node.id, ok=False, seconds=0.0, error=error)
                log.warning("pieces on node %s can't be listed: %s", node.name, error)
        if unknown := await self._bodies.epochs.enter_dead(found):
            log.info("pieces of %d unknown epochs were found", len(unknown))

    async def dead_epochs(self) -> bool:
        """Look through one node for what dead epochs wrote and nothing references, or forget an epoch that was looked
        for on all. False when there is no more."""
        dead = await self._bodies.epochs.dead()
        nodes = self._bodies.placer.nodes()
        for epoch in dead:
            self._swept.setdefault(epoch, set())
        for node in nodes:
            due = [epoch for epoch in dead if node.id not in self._swept[epoch]]
            if not due or not self._bodies.placer.is_up(node.id):
                continue
            if not node.backend.properties().supports_list or await self._sweep(node, due):
                for epoch in due:
                    self._swept[epoch].add(node.id)
                return True
        for epoch in dead:
            if all(node.id in self._swept[epoch] for node in nodes):
                await self._bodies.epochs.forget(epoch)
                del self._swept[epoch]
                self._bodies.counters.epochs_collected += 1
                reach("collection-epoch")
                return True
        return False

    async def _sweep(self, node: Node, epochs: Sequence[int]) -> bool:
        """Delete what dead epochs left on one node, in one walk: a process and its guests die together, and one that
        crashes again and again leaves many. A backend that lists takes a piece's name as its locator. False if the node
        did not let us go through it."""
        beginnings = {f"{epoch:016x}-" for epoch in epochs}
        batch: list[bytes] = []
        try:
            async with aclosing(_listed(node, _shared(min(beginnings), max(beginnings)))) as entries:
                async for entry in entries:
                    if entry.name[:17] not in beginnings:
                        continue
                    batch.append(entry.name.encode())
                    if len(batch) >= _BATCH:
                        await self._sweep_batch(node, batch)
                        if not self._bodies.placer.is_up(node.id):
                            return False
                        batch = []
            await self._sweep_batch(node, batch)
            return self._bodies.placer.is_up(node.id)
        except (BackendError, OSError, TimeoutError) as error:
            self._bodies.placer.observe(node.id, ok=False, seconds=0.0, error=error)
            log.warning("pieces of %d dead epochs on node %s can't be listed: %s", len(epochs), node.name, error)
            return False

    async def _sweep_batch(self, node: Node, locators: Sequence[bytes]) -> None:
        """A piece's name holds the first half of its segment's id: the rows that could reference it are few."""

        async def orphans(reader: Reader) -> list[bytes]:
            found = []
            for locator in locators:
                try:
                    prefix = SEGMENT + bytes.fromhex(locator.decode("ascii")[17:33])
                except ValueError:
                    continue  # not a name of ours
                rows = await reader.scan(prefix, prefix_end(prefix), limit=16)
                named = {piece.locator for _, data in rows for piece in SEGMENT_ROW.decode(data).pieces}
                if locator not in named:
                    found.append(locator)
            return found

        await self._delete(node, await self._bodies.catalog.read(orphans))


async def _listed(node: Node, prefix: str = "") -> AsyncGenerator[Entry, None]:
    """A node's pieces. Raises TimeoutError when it does not go on."""
    entries = aiter(node.backend.list(prefix))
    while True:
        try:
            async with asyncio.timeout(PATIENCE):
                entry = await anext(entries)
        except StopAsyncIteration:
            return
        yield entry


def _shared(first: str, last: str) -> str:
    """What two texts, and all between them in order, begin with."""
    length = next((place for place, (one, other) in enumerate(zip(first, last, strict=True)) if one != other), None)
    return first[:length]
