"""Waiting for what another process or task is about to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

_STEP = 0.02


async def eventually(holds: Callable[[], Awaitable[object]], *, seconds: float = 10.0) -> None:
    """Until `holds` gives something true. Raises AssertionError when it doesn't in time."""
    for _ in range(int(seconds / _STEP)):
        if await holds():
            return
        await asyncio.sleep(_STEP)
    raise AssertionError("not in time")
