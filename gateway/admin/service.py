"""The server's end of the admin socket: JSON over HTTP; long operations answer with one JSON line a step.

Whoever can open the socket (its owner, by the file's mode) may do everything here.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
from aiohttp import web

from core.errors import AtollError
from gateway.admin import endpoint

log = logging.getLogger("atoll.admin")

_encode = msgspec.json.Encoder(enc_hook=str).encode
_Steps = AsyncIterator[dict[str, Any]]


class NewUser(msgspec.Struct, forbid_unknown_fields=True):
    """A user to add; empty fields are made."""

    name: str
    email: str = ""
    id: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""


class NewQuota(msgspec.Struct, forbid_unknown_fields=True):
    """How many buckets a user may own; null: as many as the default says."""

    name: str
    max_buckets: int | None


class NewNode(msgspec.Struct, forbid_unknown_fields=True):
    """A folder that is to be a node; empty fields are made."""

    folder: str
    name: str = ""
    domain: str = ""


class CopyOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Where to copy the catalog, a database's address or a data folder, and whether to move there."""

    target: str
    switch: bool = False


class Operations(Protocol):
    """What can be asked; wiring provides it. Refusals are AtollErrors whose text is shown to the operator.

    Steps are dicts of plain values; the last one has `"end": True`.
    """

    async def status(self) -> dict[str, Any]: ...

    async def workers(self) -> list[dict[str, Any]]: ...

    async def run_worker(self, name: str) -> dict[str, Any]: ...

    async def users(self) -> list[dict[str, Any]]: ...

    async def add_user(self, new: NewUser) -> dict[str, Any]: ...

    async def remove_user(self, name: str) -> None: ...

    async def set_quota(self, new: NewQuota) -> None: ...

    async def add_node(self, new: NewNode) -> dict[str, Any]: ...

    async def remove_node(self, name: str, *, lost: bool) -> None: ...

    async def export_key(self) -> dict[str, Any]: ...

    def rotate_key(self) -> _Steps: ...

    def backup(self, target: Path) -> _Steps: ...

    def copy(self, order: CopyOrder) -> _Steps: ...

    async def accept_restore(self) -> None: ...

    def check(self, *, repair: bool, resume: str) -> _Steps: ...


class AdminService:
    """Listens on the socket of a data folder from `start` to `close`."""

    def __init__(self, operations: Operations, folder: Path, also: Sequence[web.RouteDef] = ()) -> None:
        """`also`: routes that other modules of this folder make."""
        self._operations = operations
        self._also = also
        self._folder = folder
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Begin to answer. Raises OSError."""
        application = web.Application(middlewares=[_refusals])
        application.add_routes(
            [
                web.get("/status", self._status),
                web.get("/workers", self._workers),
                web.post("/workers/{name}/run", self._run_worker),
                web.get("/users", self._users),
                web.post("/users", self._add_user),
                web.delete("/users", self._remove_user),
                web.put("/users/quota", self._set_quota),
                web.post("/nodes", self._add_node),
                web.delete("/nodes", self._remove_node),
                web.post("/keys/export", self._export_key),
                web.post("/keys/rotate", self._rotate_key),
                web.post("/catalog/backup", self._backup),
                web.post("/catalog/copy", self._copy),
                web.post("/catalog/accept", self._accept_restore),
                web.post("/check", self._check),
                *self._also,
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.SockSite(self._runner, endpoint.listen(self._folder)).start()

    async def close(self) -> None:
        """Stop answering; operations under way are cancelled."""
        if self._runner is not None:
            await self._runner.cleanup()
            (self._folder / endpoint.NAME).unlink(missing_ok=True)

    async def _status(self, _: web.Request) -> web.StreamResponse:
        return _json(await self._operations.status())

    async def _workers(self, _: web.Request) -> web.StreamResponse:
        return _json(await self._operations.workers())

    async def _run_worker(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._operations.run_worker(request.match_info["name"]))

    async def _users(self, _: web.Request) -> web.StreamResponse:
        return _json(await self._operations.users())

    async def _add_user(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._operations.add_user(msgspec.json.decode(await request.read(), type=NewUser)))

    async def _remove_user(self, request: web.Request) -> web.StreamResponse:
        await self._operations.remove_user(request.query.get("name", ""))
        return _json({})

    async def _set_quota(self, request: web.Request) -> web.StreamResponse:
        await self._operations.set_quota(msgspec.json.decode(await request.read(), type=NewQuota))
        return _json({})

    async def _add_node(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._operations.add_node(msgspec.json.decode(await request.read(), type=NewNode)))

    async def _remove_node(self, request: web.Request) -> web.StreamResponse:
        await self._operations.remove_node(request.query.get("name", ""), lost=request.query.get("lost") == "yes")
        return _json({})

    async def _export_key(self, _: web.Request) -> web.StreamResponse:
        return _json(await self._operations.export_key())

    async def _rotate_key(self, request: web.Request) -> web.StreamResponse:
        return await _stream(request, self._operations.rotate_key())

    async def _backup(self, request: web.Request) -> web.StreamResponse:
        return await _stream(request, self._operations.backup(Path(request.query.get("target", ""))))

    async def _copy(self, request: web.Request) -> web.StreamResponse:
        return await _stream(request, self._operations.copy(msgspec.json.decode(await request.read(), type=CopyOrder)))

    async def _accept_restore(self, _: web.Request) -> web.StreamResponse:
        await self._operations.accept_restore()
        return _json({})

    async def _check(self, request: web.Request) -> web.StreamResponse:
        repair = request.query.get("repair") == "yes"
        steps = self._operations.check(repair=repair, resume=request.query.get("resume", ""))
        return await _stream(request, steps)


@web.middleware
async def _refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except (AtollError, msgspec.MsgspecError) as error:
        return _json({"error": str(error)}, status=400)
    except web.HTTPException as error:
        return _json({"error": error.reason}, status=error.status)
    except OSError as error:
        return _json({"error": str(error)}, status=400)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encode(value), content_type="application/json")


async def _stream(request: web.Request, steps: _Steps) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    try:
        async for step in steps:
            await response.write(_encode(step) + b"\n")
    except (AtollError, OSError) as error:
        if request.transport is None or request.transport.is_closing():
            raise
        log.warning("operation failed", extra={"fields": {"path": request.path, "error": str(error)}})
        await response.write(_encode({"error": str(error)}) + b"\n")
    return response
