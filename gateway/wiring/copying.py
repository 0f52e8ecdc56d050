"""Copying this gateway's catalog to another place, and ending when it has moved there."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from catalog.copying.copier import Point
from catalog.copying.moving import Move, claim, forget_positions
from catalog.epochs import Epochs
from catalog.errors import CopyRefused
from catalog.interface import Catalog
from catalog.keys import u64
from catalog.leases import Lease, Leases
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.postgres_engine.address import is_address, redacted
from catalog.postgres_engine.catalog import PostgresCatalog
from core.clock import Clock
from gateway.wiring.presence import Presence

log = logging.getLogger("atoll.catalog")

_LEASE: Final = b"catalog-copy"
_LEASE_SECONDS: Final = 60.0
_STEP: Final = 0.1  # seconds between the steps that an operator sees
_FAREWELL: Final = 0.5  # seconds that the last step has to reach the operator, before the gateway ends


class Copying:
    """The copies that one gateway makes, one at a time. `on_moved` is told once when the gateway has to end."""

    def __init__(
        self,
        catalog: LmdbCatalog | PostgresCatalog,
        epochs: Epochs,
        clock: Clock,
        *,
        deployment: bytes,
        on_moved: Callable[[], None],
        describe: Callable[[bytes], Presence],
    ) -> None:
        """`describe` tells what another gateway's note says."""
        self._catalog = catalog
        self._epochs = epochs
        self._clock = clock
        self._deployment = deployment
        self._on_moved = on_moved
        self._describe = describe
        self._leases = Leases(catalog, clock, holder=epochs.holder, lives=epochs.lives)
        self._task: asyncio.Task[Point] | None = None

    async def start(self) -> None:
        """Forget what copies of gateways that died have left."""
        living = set(await self._epochs.live())
        await forget_positions(self._catalog, lambda epoch: epoch not in living)

    async def close(self) -> None:
        """Cut short what runs; the last two steps of a switch are finished."""
        await self._stop()

    async def run(self, target: str, *, switch: bool) -> AsyncIterator[dict[str, Any]]:
        """Copy to a database's address or a data folder; steps for the operator. Raises CopyRefused, CopyDiffers, and
        what the catalogs raise."""
        if self._task is not None:
            raise CopyRefused("this gateway copies its catalog already")
        moves: list[Move] = []
        task = self._task = asyncio.create_task(self._copy(target, switch, moves), name="catalog copy")
        try:
            while not task.done():
                await asyncio.wait([task], timeout=_STEP)
                if moves and not task.done():
                    yield dataclasses.asdict(moves[0].progress)
            point = task.result()
            progress = dataclasses.asdict(moves[0].progress)
            yield {**progress, "sequence": point.sequence, "total": point.rows, "moved": switch, "end": True}
        finally:
            await self._stop()

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _copy(self, target: str, switch: bool, moves: list[Move]) -> Point:
        async with contextlib.AsyncExitStack() as closing:
            lease = await self._leases.acquire(_LEASE, _LEASE_SECONDS)
            if lease is None:
                raise CopyRefused("another gateway copies the catalog")
            opened, place = await _open(target)
            closing.push_async_callback(opened.close)
            mark = await claim(opened, self._deployment)
            move = Move(
                self._catalog,
                opened,
                mark=mark,
                consumer=u64(self._epochs.epoch),
                place=place,
                clock=self._clock,
                alone=self._require_alone,
            )
            moves.append(move)
            log.info("the catalog is copied", extra={"fields": {"target": place, "switch": switch}})
            try:
                async with asyncio.TaskGroup() as tasks:
                    renewing = tasks.create_task(self._renew(lease, move))
                    try:
                        point = await move.run(switch=switch)
                    finally:
                        renewing.cancel()
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
            finally:
                if move.ended:
                    log.warning("the catalog was moved: this gateway ends", extra={"fields": {"target": place}})
                    asyncio.get_running_loop().call_later(_FAREWELL, self._on_moved)
                else:
                    await lease.release()
            return point

    async def _renew(self, lease: Lease, move: Move) -> None:
        while True:
            await asyncio.sleep(_LEASE_SECONDS / 3)
            if not self._catalog.gate.shut:
                await lease.renew(_LEASE_SECONDS)

    async def _require_alone(self) -> None:
        if self._catalog.exclusive:
            return
        others = {epoch: note for epoch, note in (await self._epochs.notes()).items() if epoch != self._epochs.epoch}
        if others:
            names = [self._describe(note).endpoint or f"epoch {epoch}" for epoch, note in others.items()]
            raise CopyRefused(f"other gateways use this catalog: stop them before a switch ({', '.join(names)})")


async def _open(target: str) -> tuple[Catalog, str]:
    """The catalog at an address or in a data folder, and how to name it. Raises StartRefused and OSError."""
    if is_address(target):
        return await PostgresCatalog.open(target), redacted(target)
    folder = Path(target)
    if not folder.is_absolute():
        raise CopyRefused("the target must be a database's address or a data folder's absolute path")
    if (folder / "data.mdb").exists():
        raise CopyRefused(f"{folder} is itself a catalog: name the data folder in which there is to be one")
    return await LmdbCatalog.open(folder / "catalog"), str(folder)
