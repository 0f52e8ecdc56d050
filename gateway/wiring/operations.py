"""What the admin socket can ask, answered over the joined rooms."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from backends.errors import BackendError
from catalog.backup import backup
from catalog.hold import held, lift_hold
from core.errors import AtollError
from core.workers import WorkerReport
from engine.collection import CollectionWorker
from gateway.admin.service import CopyOrder, NewNode, NewQuota, NewUser
from gateway.wiring import deployment
from gateway.wiring.checking import Checking, Place
from gateway.wiring.health import health
from gateway.wiring.presence import gateways

if TYPE_CHECKING:
    from core.worker_runner import RunningWorker
    from engine.ports import Node
    from gateway.wiring.build import Gateway

_STEP = 0.1  # seconds between the steps that an operator sees
_STAGES = 3  # from a released body to deleted pieces


class OperationRefused(AtollError):
    """What was asked can't be done now; the text says why."""


class GatewayOperations:
    """Implements `gateway.admin.service.Operations`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._exclusive = asyncio.Lock()

    async def status(self) -> dict[str, Any]:
        gateway = self._gateway
        return {
            "version": gateway.version,
            "endpoint": gateway.endpoint,
            "processes": 1 + gateway.guests.serving,
            "deployment": gateway.deployment.row.id.hex(),
            "root_key": gateway.deployment.keyring.root_key_id,
            "uptime_seconds": round(time.monotonic() - gateway.started, 1),
            "warnings": [*gateway.warnings(), *await self._hold(), *await gateway.snapshots.warnings()],
            "nodes": await asyncio.gather(*(self._node(node) for node in gateway.placer.nodes())),
            "gateways": await gateways(gateway),
            "health": await health(gateway),
            "snapshots": await gateway.snapshots.status(),
            "workers": await self.workers(),
        }

    async def _hold(self) -> list[str]:
        hold = await held(self._gateway.catalog)
        if hold is None:
            return []
        made = datetime.fromtimestamp(hold.backup_us / 1e6, tz=UTC).isoformat(timespec="seconds")
        return [
            f"the catalog was restored, moved or reopened as of {made}: nothing is deleted from nodes, so that you can "
            "still go back to the one before; once all is well run `atoll catalog accept`"
        ]

    async def accept_restore(self) -> None:
        if not await lift_hold(self._gateway.catalog):
            raise OperationRefused("the catalog is not a restored one and was not moved, or was accepted before")

    async def _node(self, node: Node) -> dict[str, Any]:
        """`pieces` and `piece_bytes` are Atoll's own, as last counted (null before the first count); the figures of the
        device hold whatever else lies on it, other nodes too; `free` is what may be written here."""
        gateway = self._gateway
        counted = gateway.tally.pieces
        pieces, size = (None, None) if counted is None else counted.get(node.id, (0, 0))
        up = gateway.placer.is_up(node.id)
        shown: dict[str, Any] = {
            "name": node.name,
            "id": node.id.hex(),
            "folder": str(gateway.nodes.folders[node.id]),
            "domain": node.domain,
            "up": up,
            "leaving": gateway.placer.leaving(node.id),
            "error": gateway.placer.last_error(node.id),
            "device": node.backend.properties().device,
            "pieces": pieces,
            "piece_bytes": size,
            "device_total": 0,
            "device_used": 0,
            "free": 0,
        }
        if up:
            try:
                capacity = await node.backend.capacity()
            except BackendError as error:
                return {**shown, "up": False, "error": str(error)}
            shown.update(device_total=capacity.total, device_used=capacity.used, free=capacity.free)
        return shown

    async def workers(self) -> list[dict[str, Any]]:
        return [_describe(running) for running in self._gateway.runner.workers().values()]

    async def run_worker(self, name: str) -> dict[str, Any]:
        self._gateway.runner.force(name)
        await self._gateway.guests.tidy()
        report = await self._gateway.runner.run(name)
        if name == CollectionWorker.name and self._gateway.snapshots.worker is not None:
            # Each stage's rows have to be in a snapshot before the pieces go.
            for _ in range(_STAGES):
                await self._gateway.snapshots.refresh()
                await self._gateway.guests.tidy()
                report = await self._gateway.runner.run(name)
        return _report(name, report)

    async def users(self) -> list[dict[str, Any]]:
        """`buckets`: how many the user owns; `max_buckets`: how many it may (null: any number), by a quota of its own
        (`own_quota`) or by default."""
        quotas = self._gateway.quotas
        own = await self._gateway.catalog.read(quotas.own)
        owned = await self._gateway.store.count_buckets()
        return [
            {
                "name": user.name,
                "id": user.id,
                "email": user.email,
                "access_key_ids": [key.id for key in user.keys],
                "declared": user.declared,
                "buckets": owned[user.id],
                "max_buckets": own.get(user.id, quotas.default(user.id)),
                "own_quota": user.id in own,
            }
            for user in await self._gateway.users.list()
        ]

    async def add_user(self, new: NewUser) -> dict[str, Any]:
        user = await self._gateway.users.add(
            new.name,
            email=new.email,
            canonical_id=new.id,
            access_key_id=new.access_key_id,
            secret=new.secret_access_key,
        )
        key = user.keys[0]
        return {
            "name": user.name,
            "id": user.id,
            "email": user.email,
            "access_key_id": key.id,
            "secret_access_key": key.secret,
        }

    async def remove_user(self, name: str) -> None:
        await self._gateway.users.remove(name)

    async def set_quota(self, new: NewQuota) -> None:
        await self._gateway.users.set_quota(new.name, max_buckets=new.max_buckets)

    async def add_node(self, new: NewNode) -> dict[str, Any]:
        folder = Path(new.folder)
        if not folder.is_absolute():
            raise OperationRefused("the folder must be an absolute path")
        row = await self._gateway.nodes.add(folder, name=new.name, domain=new.domain)
        await self._gateway.placer.probe()
        return {"name": row.name, "domain": row.domain, "folder": row.folder}

    async def remove_node(self, name: str, *, lost: bool) -> None:
        await self._gateway.nodes.remove(name, lost=lost)

    async def export_key(self) -> dict[str, Any]:
        held = self._gateway.deployment
        if self._exclusive.locked():
            raise OperationRefused("a rotation is under way")
        key_id = held.keyring.root_key_id
        text = await asyncio.to_thread(held.key_file.text, key_id)
        held.row = await deployment.change(self._gateway.catalog, lambda row: replace(row, exported_key_id=key_id))
        return {"key": text, "key_id": key_id, "deployment": held.row.id.hex()}

    async def rotate_key(self) -> AsyncIterator[dict[str, Any]]:
        held = self._gateway.deployment
        if self._exclusive.locked():
            raise OperationRefused("a rotation is under way")
        async with self._exclusive:
            old = held.key_file.read()
            new = held.key_file.make_next()
            if not await self._gateway.guests.expect_key():
                raise OperationRefused("a process of the gateway does not answer: it would be left with the former key")
            wrapped = 0

            def count(done: int) -> None:
                nonlocal wrapped
                wrapped = done

            rotation = asyncio.ensure_future(held.keyring.rotate(new, count))
            try:
                while not rotation.done():
                    await asyncio.wait([rotation], timeout=_STEP)
                    yield {"wrapped": wrapped}
                total = rotation.result()
            finally:
                # A rotation that an operator walked away from is finished, not left between two keys.
                if not rotation.done():
                    await rotation
                if rotation.exception() is None:
                    held.key_file.advance(old)
            await self._gateway.guests.renew()  # they hold the former key, and wrapped for both
            await held.keyring.finish_rotation()
            yield {"wrapped": total, "key_id": new.key_id, "end": True}

    async def backup(self, target: Path) -> AsyncIterator[dict[str, Any]]:
        if not target.is_absolute():
            raise OperationRefused("the target must be an absolute path")
        if await asyncio.to_thread(target.exists):
            raise OperationRefused(f"{target} exists already")
        progress = {"rows": 0, "bytes": 0}

        def note(rows: int, size: int) -> None:
            progress.update(rows=rows, bytes=size)

        writing = asyncio.ensure_future(backup(self._gateway.catalog, target, note))
        try:
            while not writing.done():
                await asyncio.wait([writing], timeout=_STEP)
                yield dict(progress)
            summary = writing.result()
        finally:
            if not writing.done():
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
        yield {"rows": summary.rows, "bytes": summary.bytes, "sequence": summary.sequence, "end": True}

    def copy(self, order: CopyOrder) -> AsyncIterator[dict[str, Any]]:
        return self._gateway.copying.run(order.target, switch=order.switch)

    async def check(self, *, repair: bool, resume: str) -> AsyncIterator[dict[str, Any]]:
        async for step in Checking(self._gateway, repair, Place.parse(resume)).run():
            yield step


def _describe(running: RunningWorker) -> dict[str, Any]:
    return {**_report(running.worker.name, running.report()), "last_error": running.last_error}


def _report(name: str, report: WorkerReport) -> dict[str, Any]:
    return {"name": name, "state": report.state.value, "progress": report.progress, "counters": report.counters}
