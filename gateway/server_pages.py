"""Our own pages below `/-/`: health for orchestrators, metrics for Prometheus.

They tell nothing of what is stored and need no signature.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from core.http.refusals import error_response
from core.metrics import Metrics


class Pages:
    """`/-/health/live`: the process turns. `/-/health/ready`: it can serve now. `/-/metrics`."""

    def __init__(self, metrics: Callable[[], Awaitable[bytes]], not_ready: Callable[[], str]) -> None:
        self._metrics = metrics
        self._not_ready = not_ready

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request below `/-/`."""
        path = request.raw_path.partition("?")[0]
        if path not in ("/-/health/live", "/-/health/ready", "/-/metrics"):
            return error_response(404, "NoSuchKey", "There is no such page.")
        if request.method not in ("GET", "HEAD"):
            return error_response(405, "MethodNotAllowed", "This page can only be read.")
        if path == "/-/metrics":
            headers = {"Content-Type": Metrics.content_type, "Server": "Atoll"}
            return web.Response(body=await self._metrics(), headers=headers)
        reason = self._not_ready() if path == "/-/health/ready" else ""
        status, text = (503, f"not ready: {reason}\n") if reason else (200, "ok\n")
        return web.Response(status=status, text=text, headers={"Server": "Atoll"})
