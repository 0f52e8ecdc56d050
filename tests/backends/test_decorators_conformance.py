"""Each decorator around memory is a backend."""

from __future__ import annotations

from atoll.backends import Backend, BackendConformance
from backends.decorators import FaultyBackend, LimitBackend, MeterBackend, RetryBackend
from backends.memory import MemoryBackend


class TestRetry(BackendConformance):
    async def make_backend(self) -> Backend:
        return RetryBackend(MemoryBackend())


class TestLimit(BackendConformance):
    async def make_backend(self) -> Backend:
        return LimitBackend(MemoryBackend(), concurrent=2)


class TestMeter(BackendConformance):
    async def make_backend(self) -> Backend:
        return MeterBackend(MemoryBackend())


class TestFaultyWithoutRules(BackendConformance):
    async def make_backend(self) -> Backend:
        return FaultyBackend(MemoryBackend())
