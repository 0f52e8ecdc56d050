"""Faults on purpose: seeded, scripted and counted, so that a test can say which mechanism it met."""

from __future__ import annotations

import asyncio
import enum
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from backends.decorators.wrapper import BackendWrapper
from backends.errors import RetryLater
from backends.interface import Backend, Capacity, Entry, PieceSource
from core.buffers import Buffer


class Fault(enum.Enum):
    """What goes wrong."""

    ERROR = "error"  # the call raises before it does anything
    LATE_ERROR = "late-error"  # the call does its work and then raises, as when an answer gets lost
    BREAK = "break"  # put: raises in the middle of the bytes
    DELAY = "delay"  # the call starts later
    HANG = "hang"  # the call never returns, until it is cancelled or `release` is called
    FLIP = "flip"  # get: one bit of the answer is wrong; put: one bit of what is stored
    SHORT = "short"  # get: fewer bytes than there are; put: fewer are stored
    LOSE = "lose"  # put: success is told, nothing is kept


@dataclass(slots=True)
class FaultRule:
    """When a fault happens: to `operation` ("put", "get", "delete", "stat", "list", "capacity", "open", or "*" for
    all) on names that start with `prefix`, not to the first `after` matching calls, then each time with `probability`,
    `times` times at most (-1: without end)."""

    operation: str
    fault: Fault
    probability: float = 1.0
    times: int = -1
    after: int = 0
    prefix: str = ""
    seconds: float = 0.05  # of DELAY
    error: Callable[[str], Exception] = RetryLater  # of ERROR, LATE_ERROR and BREAK


class FaultyBackend(BackendWrapper):
    """Injects the faults of `rules`, drawn from `seed`; the first rule that fires decides.

    `rules` is a plain list, to be changed while the backend is used. `injected` counts every fault that happened, by
    (operation, fault). The same seed and the same sequence of calls give the same faults.
    """

    def __init__(self, inner: Backend, *, seed: int = 0, rules: list[FaultRule] | None = None) -> None:
        super().__init__(inner)
        self.rules = rules if rules is not None else []
        self.injected: Counter[tuple[str, Fault]] = Counter()
        self._random = random.Random(seed)  # noqa: S311  # repeatable faults are the point
        self._released = asyncio.Event()

    def release(self) -> None:
        """Let every call that hangs now go on."""
        self._released.set()
        self._released = asyncio.Event()

    async def open(self) -> None:
        rule = await self._before("open", "")
        await self.inner.open()
        _after(rule, "open")

    async def put(self, name: str, source: PieceSource) -> bytes:
        rule = await self._before("put", name)
        if rule is not None and rule.fault is Fault.LOSE:
            async for _ in source:
                pass
            return name.encode()
        if rule is not None and rule.fault in (Fault.BREAK, Fault.FLIP, Fault.SHORT):
            source = _SpoiledSource(source, rule, self._random)
        locator = await self.inner.put(name, source)
        _after(rule, name)
        return locator

    async def get(self, locator: bytes, offset: int, length: int) -> Buffer:
        rule = await self._before("get", locator.decode("ascii", "replace"))
        buffer = await self.inner.get(locator, offset, length)
        _after(rule, "get")
        if rule is not None and len(buffer):
            if rule.fault is Fault.SHORT:
                return memoryview(buffer)[: self._random.randrange(len(buffer))]
            if rule.fault is Fault.FLIP:
                return _flipped(buffer, self._random)
        return buffer

    async def delete(self, locator: bytes) -> None:
        rule = await self._before("delete", locator.decode("ascii", "replace"))
        await self.inner.delete(locator)
        _after(rule, "delete")

    async def stat(self, locator: bytes) -> Entry:
        rule = await self._before("stat", locator.decode("ascii", "replace"))
        entry = await self.inner.stat(locator)
        _after(rule, "stat")
        return entry

    async def list(self, prefix: str = "") -> AsyncIterator[Entry]:
        rule = await self._before("list", prefix)
        async for entry in self.inner.list(prefix):
            yield entry
        _after(rule, "list")

    async def capacity(self) -> Capacity:
        rule = await self._before("capacity", "")
        capacity = await self.inner.capacity()
        _after(rule, "capacity")
        return capacity

    async def _before(self, operation: str, name: str) -> FaultRule | None:
        """The rule that fires for this call, its faults that come before the work done."""
        rule = self._draw(operation, name)
        if rule is None:
            return None
        self.injected[operation, rule.fault] += 1
        if rule.fault is Fault.ERROR:
            raise rule.error(f"injected into {operation}")
        if rule.fault is Fault.DELAY:
            await asyncio.sleep(rule.seconds)
        elif rule.fault is Fault.HANG:
            await self._released.wait()
        return rule

    def _draw(self, operation: str, name: str) -> FaultRule | None:
        for rule in self.rules:
            if rule.operation not in ("*", operation) or not name.startswith(rule.prefix) or rule.times == 0:
                continue
            if operation not in _OPERATIONS.get(rule.fault, (operation,)):
                continue
            if rule.after > 0:
                rule.after -= 1
            elif self._random.random() < rule.probability:
                rule.times -= 1
                return rule
        return None


#: Faults that only some operations can have.
_OPERATIONS = {
    Fault.BREAK: ("put",),
    Fault.LOSE: ("put",),
    Fault.FLIP: ("put", "get"),
    Fault.SHORT: ("put", "get"),
}


def _after(rule: FaultRule | None, doing: str) -> None:
    if rule is not None and rule.fault is Fault.LATE_ERROR:
        raise rule.error(f"injected after {doing}")


def _flipped(buffer: Buffer, rng: random.Random) -> bytearray:
    spoiled = bytearray(buffer)
    bit = rng.randrange(len(spoiled) * 8)
    spoiled[bit // 8] ^= 1 << bit % 8
    return spoiled


class _SpoiledSource:
    """A source whose first non-empty chunk is spoiled, or after which it ends or breaks."""

    def __init__(self, source: PieceSource, rule: FaultRule, rng: random.Random) -> None:
        self._source = source
        self._rule = rule
        self._random = rng

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        spoiled = False
        async for buffer in self._source:
            if spoiled:
                if self._rule.fault is Fault.FLIP:
                    yield buffer
            elif len(buffer):
                spoiled = True
                if self._rule.fault is Fault.FLIP:
                    yield _flipped(buffer, self._random)
                else:
                    yield memoryview(buffer)[: self._random.randrange(len(buffer))]
                if self._rule.fault is Fault.BREAK:
                    raise self._rule.error("injected into the middle of put")
        if self._rule.fault is Fault.BREAK:
            raise self._rule.error("injected into the middle of put")

    def digest(self) -> bytes:
        return self._source.digest()
