"""A deterministic explorer of interleavings.

A scenario is a few *actors* (coroutines) over one world. Whenever an actor is about to do something that others can
see (take a snapshot, commit, ask a node), it stops at a *step*, and the scheduler decides which actor goes on. The
event loop has no clock and no threads of its own: timers fire only when no actor can go on, and what would run in a
pool runs in place. Random bytes come from a seed. So a list of actor names, the *schedule*, replays a run exactly.

`explore` walks the schedules systematically, those with the fewest preemptions first (most races need one or two), and
in turns with that it tries random priorities with a few random changes, which finds a race of depth d with a
probability known beforehand (Burckhardt and others, "A randomized scheduler with probabilistic guarantees of finding
bugs").
"""

from __future__ import annotations

import asyncio
import heapq
import os
import random
import selectors
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from unittest.mock import patch

T = TypeVar("T")

#: Whose step this is. Tasks that an actor starts inherit it; set-up and checks have none and never stop.
ACTOR: ContextVar[str] = ContextVar("actor", default="")
#: A run that takes more steps than this is stuck in a loop.
_MAX_STEPS = 5_000


class Stuck(Exception):
    """No actor can go on, or they go on for ever."""


class Violation(AssertionError):
    """A run broke an invariant. `schedule` replays it."""

    def __init__(self, schedule: Sequence[str], trace: Sequence[str], error: BaseException) -> None:
        shown = "\n".join(f"  {line}" for line in trace[-80:])
        super().__init__(f"{type(error).__name__}: {error}\nschedule: {list(schedule)}\nsteps:\n{shown}")
        self.schedule = list(schedule)
        self.error = error


class Policy(Protocol):
    """Decides who goes on."""

    def pick(self, ready: Sequence[str], last: str) -> str: ...


@dataclass(slots=True)
class Scripted:
    """Follows `script`, then lets the last actor go on as long as it can."""

    script: Sequence[str]
    place: int = 0

    def pick(self, ready: Sequence[str], last: str) -> str:
        self.place += 1
        if self.place <= len(self.script) and self.script[self.place - 1] in ready:
            return self.script[self.place - 1]
        return last if last in ready else ready[0]


class Priorities:
    """Random priorities; at a few random steps the one who would go on drops below all others."""

    def __init__(self, seed: int, *, changes: int, length: int) -> None:
        self._random = random.Random(seed)
        self._priorities: dict[str, float] = {}
        self._at = set(self._random.sample(range(1, max(length, changes + 1) + 1), changes))
        self._step = 0

    def pick(self, ready: Sequence[str], last: str) -> str:
        for actor in ready:
            if actor not in self._priorities:
                self._priorities[actor] = 1 + self._random.random()
        self._step += 1
        best = max(ready, key=self._priorities.__getitem__)
        if self._step in self._at:
            self._priorities[best] = -self._step
            best = max(ready, key=self._priorities.__getitem__)
        return best


@dataclass(frozen=True, slots=True)
class Decision:
    ready: tuple[str, ...]
    chosen: str
    label: str


class Scheduler:
    """Holds the steps that wait and releases one at a time."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._waiting: dict[str, deque[tuple[str, asyncio.Future[None]]]] = {}
        self._last = ""
        self.decisions: list[Decision] = []
        self.trace: list[str] = []

    async def step(self, label: str) -> None:
        """Stop here until it is this actor's turn."""
        actor = ACTOR.get()
        if not actor:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(actor, deque()).append((label, future))
        await future

    def release(self) -> bool:
        """Let one actor take its oldest step; False if none waits."""
        for actor, steps in list(self._waiting.items()):
            while steps and steps[0][1].done():  # cancelled meanwhile
                steps.popleft()
            if not steps:
                del self._waiting[actor]
        if not self._waiting:
            return False
        if len(self.decisions) >= _MAX_STEPS:
            raise Stuck(f"more than {_MAX_STEPS} steps")
        ready = tuple(sorted(self._waiting))
        actor = self._policy.pick(ready, self._last)
        label, future = self._waiting[actor].popleft()
        self.decisions.append(Decision(ready, actor, label))
        self.trace.append(f"{actor}: {label}")
        self._last = actor
        future.set_result(None)
        return True

    @property
    def schedule(self) -> list[str]:
        return [decision.chosen for decision in self.decisions]


class _Idle(selectors.SelectSelector):
    """Asked for events only when nothing is ready: then it is the scheduler's turn, and then the clock's."""

    loop: ReplayLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is not None and timeout <= 0:
            return []
        if not self.loop.scheduler.release():
            if timeout is None:
                raise Stuck("every actor waits for another")
            self.loop.now += timeout
        return []


class ReplayLoop(asyncio.SelectorEventLoop):
    """An event loop without a clock and without threads."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.now = 0.0
        self.scheduler = scheduler
        selector = _Idle()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, function: Callable[..., T], *arguments: Any
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


class Scenario(Protocol):
    """One world with its actors. A fresh one for each run."""

    async def prepare(self, scheduler: Scheduler) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """Build the world (nothing stops yet) and name the actors. An actor's exception fails the run."""
        ...

    async def check(self) -> None:
        """After all actors ended: raise AssertionError if an invariant is broken."""
        ...


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random bytes of ids, names and keys from a seed, so that a schedule means the same in every run."""
    source = random.Random(seed)
    with patch.object(os, "urandom", source.randbytes), patch.object(random, "_urandom", source.randbytes):
        yield


def run_once(make: Callable[[], Scenario], policy: Policy) -> Scheduler:
    """One run. Raises Violation."""
    scheduler = Scheduler(policy)
    loop = ReplayLoop(scheduler)

    async def actor(name: str, function: Callable[[], Awaitable[None]]) -> None:
        ACTOR.set(name)
        await scheduler.step("begin")
        await function()

    async def main() -> None:
        scenario = make()
        actors = await scenario.prepare(scheduler)
        tasks = [asyncio.create_task(actor(name, function), name=name) for name, function in actors.items()]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await scenario.check()

    with _seeded(1):
        try:
            loop.run_until_complete(main())
        except Exception as error:
            raise Violation(scheduler.schedule, scheduler.trace, error) from error
        finally:
            _drain(loop)
    return scheduler


def _drain(loop: ReplayLoop) -> None:
    """End what a broken run left behind."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@dataclass(slots=True)
class Exploration:
    """What was walked."""

    runs: int = 0
    exhausted: bool = False  # every schedule within the bound was run
    complete: bool = False  # and the bound has kept none back: there are no others
    longest: int = 0
    schedules: list[list[str]] = field(default_factory=list)  # of every run
    labels: list[list[str]] = field(default_factory=list)  # what each of their steps was


def explore(make: Callable[[], Scenario], *, runs: int, bound: int = 2, seed: int = 0) -> Exploration:
    """Run a scenario under up to `runs` schedules: in turns the next of all those with at most `bound` preemptions, and
    one at random, which is better at deep races. Raises Violation at the first that breaks an invariant."""
    done = Exploration()
    seeded = random.Random(seed)
    for _ in _systematic(make, done, bound):
        if done.runs < runs:
            _random(make, done, seeded)
        if done.runs >= runs:
            return done
    while done.runs < runs and not done.complete:
        _random(make, done, seeded)
    return done


def _random(make: Callable[[], Scenario], done: Exploration, seeded: random.Random) -> None:
    policy = Priorities(seeded.getrandbits(60), changes=seeded.randrange(1, 5), length=done.longest)
    _note(done, run_once(make, policy))


def _note(done: Exploration, scheduler: Scheduler) -> None:
    done.runs += 1
    done.longest = max(done.longest, len(scheduler.decisions))
    done.schedules.append(scheduler.schedule)
    done.labels.append([decision.label for decision in scheduler.decisions])


def _systematic(make: Callable[[], Scenario], done: Exploration, bound: int) -> Iterator[None]:
    """Yields after each run."""
    # By preemptions, then by length: what is simple comes first; the counter keeps the order of insertion.
    queue: list[tuple[int, int, int, list[str]]] = [(0, 0, 0, [])]
    pushed, kept_back = 0, False
    while queue:
        cost, _, _, prefix = heapq.heappop(queue)
        scheduler = run_once(make, Scripted(prefix))
        _note(done, scheduler)
        chosen = scheduler.schedule
        last = chosen[len(prefix) - 1] if prefix else ""
        for place in range(len(prefix), len(chosen)):
            decision = scheduler.decisions[place]
            for other in decision.ready:
                price = cost + (last in decision.ready and other != last)
                if other == decision.chosen:
                    continue
                if price > bound:
                    kept_back = True
                else:
                    pushed += 1
                    heapq.heappush(queue, (price, pushed % 7919, pushed, [*chosen[:place], other]))
            last = decision.chosen
        done.exhausted = not queue
        done.complete = done.exhausted and not kept_back
        yield


def find_violation(make: Callable[[], Scenario], *, runs: int, bound: int = 2, seed: int = 0) -> Violation | None:
    """The first violation, if any: proves that a scenario can fail."""
    try:
        explore(make, runs=runs, bound=bound, seed=seed)
    except Violation as found:
        return found
    return None
