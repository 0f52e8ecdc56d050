"""Migrations over the admin socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from aiohttp import web

_encode = msgspec.json.Encoder(enc_hook=str).encode


class NewMigration(msgspec.Struct, forbid_unknown_fields=True):
    """A migration to begin. `bandwidth` is bytes a second, 0 for no limit; `patience` seconds."""

    endpoint: str
    source_bucket: str
    target_bucket: str
    region: str = "us-east-1"
    virtual_host: bool = False
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    prefix: str = ""
    concurrency: int = 8
    bandwidth: int = 0
    patience: float = 120.0
    read_through: bool = False
    md5_etags: bool = True


class NewKeys(msgspec.Struct, forbid_unknown_fields=True):
    """Other keys of a source, for a migration that goes on; none leaves them as they are."""

    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""


class Migrations(Protocol):
    """What can be asked; wiring provides it. Refusals are AtollErrors whose text is shown to the operator. Nothing
    that is answered holds a secret."""

    async def begin(self, new: NewMigration) -> dict[str, Any]: ...

    async def all(self) -> list[dict[str, Any]]: ...

    async def status(self, job_id: str) -> dict[str, Any]: ...

    async def report(self, job_id: str, after: str) -> dict[str, Any]: ...

    async def pause(self, job_id: str) -> dict[str, Any]: ...

    async def resume(self, job_id: str, keys: NewKeys) -> dict[str, Any]: ...

    async def end(self, job_id: str, *, cancel: bool) -> dict[str, Any]: ...

    async def forget(self, job_id: str) -> None: ...


def routes(migrations: Migrations) -> list[web.RouteDef]:
    """What the admin service serves of migrations."""

    async def begin(request: web.Request) -> web.Response:
        return _json(await migrations.begin(msgspec.json.decode(await request.read(), type=NewMigration)))

    async def every(_: web.Request) -> web.Response:
        return _json(await migrations.all())

    async def status(request: web.Request) -> web.Response:
        return _json(await migrations.status(request.match_info["id"]))

    async def report(request: web.Request) -> web.Response:
        return _json(await migrations.report(request.match_info["id"], request.query.get("after", "")))

    async def pause(request: web.Request) -> web.Response:
        return _json(await migrations.pause(request.match_info["id"]))

    async def resume(request: web.Request) -> web.Response:
        keys = msgspec.json.decode(await request.read() or b"{}", type=NewKeys)
        return _json(await migrations.resume(request.match_info["id"], keys))

    def ending(cancel: bool) -> Callable[[web.Request], Any]:
        async def end(request: web.Request) -> web.Response:
            return _json(await migrations.end(request.match_info["id"], cancel=cancel))

        return end

    async def forget(request: web.Request) -> web.Response:
        await migrations.forget(request.match_info["id"])
        return _json({})

    return [
        web.get("/migrations", every),
        web.post("/migrations", begin),
        web.get("/migrations/{id}", status),
        web.get("/migrations/{id}/report", report),
        web.post("/migrations/{id}/pause", pause),
        web.post("/migrations/{id}/resume", resume),
        web.post("/migrations/{id}/finish", ending(False)),
        web.post("/migrations/{id}/cancel", ending(True)),
        web.delete("/migrations/{id}", forget),
    ]


def _json(value: Any) -> web.Response:
    return web.Response(body=_encode(value), content_type="application/json")
