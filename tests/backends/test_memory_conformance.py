"""`memory` is a backend."""

from __future__ import annotations

from atoll.backends import Backend, BackendConformance
from backends.memory import MemoryBackend


class TestMemory(BackendConformance):
    async def make_backend(self) -> Backend:
        return MemoryBackend()
