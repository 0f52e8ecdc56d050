"""Background work: the protocol that rooms implement and the runner that owns the tasks."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from core.errors import AtollError


class WorkerState(enum.Enum):
    """What a worker did in its last turn."""

    BUSY = "busy"  # there is more; call again soon
    IDLE = "idle"  # nothing to do now
    DONE = "done"  # never needs another turn


class HandOver(AtollError):
    """Raised by a turn of work that another process may be able to do and this one is not: its lease is given back."""


@dataclass(slots=True)
class WorkerReport:
    """What `status` prints of a worker."""

    state: WorkerState = WorkerState.IDLE
    progress: str = ""
    counters: dict[str, int] = field(default_factory=dict)


class Worker(Protocol):
    """A named background job.

    `turn` does one bounded piece of work (well under a second where it can) and returns; the runner paces it by the
    foreground, repeats it at once while BUSY, and after `interval` seconds or a `wake` when IDLE. It may be cancelled
    at any await and must leave a state from which the next turn goes on.
    """

    name: str
    interval: float

    async def turn(self) -> WorkerState: ...

    def report(self) -> WorkerReport: ...


@runtime_checkable
class Forceable(Protocol):
    """A worker that does more when an operator asks for it than by itself."""

    def force(self) -> None: ...


@runtime_checkable
class Standby(Protocol):
    """A worker that has something to do for its own process while another process has its lease."""

    async def standby(self) -> WorkerState:
        """One turn without the lease: touch nothing that is not this process's own."""
        ...
