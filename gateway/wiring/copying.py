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
from catalog.errors import CatalogError, CopyRefused
from catalog.interface import Catalog
from catalog.keys import u64
from catalog.leases import Lease, Leases
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.lmdb_engine.folder import DATA_NAME
from catalog.postgres_engine.address import is_address, redacted
from catalog.postgres_engine.catalog import PostgresCatalog
from core.clock import Clock
from gateway.wiring.deployment import bound_to
from gateway.wiring.presence import Presence
from gateway.wiring.secret_files import create_private_folder

log = logging.getLogger("atoll.catalog")

_LEASE: Final = b"catalog-copy"
_LEASE_SECONDS: Final = 60.0
_STEP: Final = 0.1  # seconds between the steps that an operator sees
_FAREWELL: Final = 0.5  # seconds that the last step has to reach the operator, before the gateway ends
_CONNECTIONS: Final = 4  # to a database that is the target
_DEATH: Final = "; one that died is noticed within half a minute"


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
            await self._stop()  # who hears of the end may want another copy at once
            progress = dataclasses.asdict(moves[0].progress)
            total = progress["compared"] + len(point.unlisted)
            yield {**progress, "sequence": point.sequence, "total": total, "moved": switch, "end": True}
        finally:
            await self._stop()

    async def _stop(self) -> None:
        """End what runs; until it has ended it is in the way of another."""
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if self._task is task:
                self._task = None

    async def _copy(self, target: str, switch: bool, moves: list[Move]) -> Point:
        lease = await self._leases.acquire(_LEASE, _LEASE_SECONDS)
        if lease is None:
            raise CopyRefused(f"another gateway copies the catalog{_DEATH}")
        async with contextlib.AsyncExitStack() as closing:
            closing.push_async_callback(self._give_back, lease)
            opened, place = await _open(target, self._deployment)
            closing.push_async_callback(opened.close)
            move = Move(
                self._catalog,
                opened,
                mark=await claim(opened, self._deployment),
                consumer=u64(self._epochs.epoch),
                place=place,
                clock=self._clock,
                alone=self._require_alone,
            )
            moves.append(move)
            log.info("the catalog is copied", extra={"fields": {"target": place, "switch": switch}})
            try:
                point = await self._run(move, lease, switch)
            finally:
                if move.ended:
                    log.warning("the catalog was moved: this gateway ends", extra={"fields": {"target": place}})
                    asyncio.get_running_loop().call_later(_FAREWELL, self._on_moved)
            log.info("the catalog was copied", extra={"fields": {"target": place, "sequence": point.sequence}})
            return point

    async def _run(self, move: Move, lease: Lease, switch: bool) -> Point:
        try:
            async with asyncio.TaskGroup() as tasks:
                renewing = tasks.create_task(self._renew(lease))
                try:
                    return await move.run(switch=switch)
                finally:
                    renewing.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _renew(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(_LEASE_SECONDS / 3)
            if not self._catalog.gate.shut:
                await lease.renew(_LEASE_SECONDS)

    async def _give_back(self, lease: Lease) -> None:
        """Let others copy at once; where that can't be told, the lease ends by itself."""
        with contextlib.suppress(CatalogError):
            await lease.release()

    async def _require_alone(self) -> None:
        if self._catalog.local:  # whoever else has it open is of this gateway
            return
        others = {epoch: note for epoch, note in (await self._epochs.notes()).items() if epoch != self._epochs.epoch}
        if others:
            names = [self._describe(note).endpoint or f"epoch {epoch}" for epoch, note in others.items()]
            raise CopyRefused(f"other gateways use this catalog: stop them first ({', '.join(names)}){_DEATH}")


async def _open(target: str, deployment: bytes) -> tuple[Catalog, str]:
    """The catalog at an address or in a data folder, and how to name it. Raises CopyRefused, StartRefused, OSError."""
    if is_address(target):
        return await PostgresCatalog.open(target, connections=_CONNECTIONS), redacted(target)
    folder = Path(target)
    await asyncio.to_thread(_require_usable, folder, deployment)
    return await LmdbCatalog.open(folder / "catalog"), str(folder)


def _require_usable(folder: Path, deployment: bytes) -> None:
    """Raise CopyRefused unless this deployment's catalog may go into the data folder, which is made if it is absent."""
    if not folder.is_absolute():
        raise CopyRefused("the target must be a database's address or a data folder's absolute path")
    if (folder / DATA_NAME).exists():
        raise CopyRefused(f"{folder} is itself a catalog: name the data folder in which there is to be one")
    if not folder.is_dir() and (folder.exists() or not folder.parent.is_dir()):
        raise CopyRefused(f"{folder} is no folder, and can't be made one")
    bound = bound_to(folder)
    if bound not in ("", deployment.hex()):
        raise CopyRefused(f"{folder} belongs to the deployment {bound}")
    create_private_folder(folder)
