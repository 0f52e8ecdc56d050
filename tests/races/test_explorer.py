"""The explorer itself: it finds known races, walks small spaces whole, and replays what it found."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from tests.races.explorer import Scheduler, Scripted, Stuck, Violation, explore, find_violation, run_once


class Counter:
    """Actors that increment in two steps."""

    actors = 2
    wanted = 2

    async def prepare(self, scheduler: Scheduler) -> Mapping[str, Callable[[], Awaitable[None]]]:
        self.value = 0

        async def increment() -> None:
            read = self.value
            await scheduler.step("write")
            self.value = read + 1

        return {f"actor {number}": increment for number in range(self.actors)}

    async def check(self) -> None:
        assert self.value == self.wanted, f"{self.value} of {self.wanted} increments are there"


class Sound(Counter):
    wanted = 1

    async def check(self) -> None:
        assert 1 <= self.value <= self.actors


def test_a_lost_update_is_found_and_replayed() -> None:
    found = find_violation(Counter, runs=100, bound=1)
    assert found is not None
    assert "1 of 2 increments" in str(found)
    with pytest.raises(Violation, match="1 of 2 increments"):
        run_once(Counter, Scripted(found.schedule))


def test_a_space_is_walked_whole() -> None:
    # Two actors of two steps each: (2 + 2)! / (2! 2!) orders.
    done = explore(Sound, runs=1000, bound=10)
    assert done.complete
    assert len({tuple(schedule) for schedule in done.schedules}) == 6
    assert len(done.schedules) == 6 + 6, "as many at random, and none after the last one"


def test_preemptions_are_bounded() -> None:
    done = explore(Sound, runs=4, bound=0)
    assert done.exhausted
    assert not done.complete
    assert sorted(done.schedules[::2]) == [["actor 0"] * 2 + ["actor 1"] * 2, ["actor 1"] * 2 + ["actor 0"] * 2]


def test_a_deadlock_is_told() -> None:
    class Waiting:
        async def prepare(self, scheduler: Scheduler) -> Mapping[str, Callable[[], Awaitable[None]]]:
            async def wait() -> None:
                await asyncio.Event().wait()

            return {"one": wait}

        async def check(self) -> None:
            raise AssertionError("never reached")

    found = find_violation(Waiting, runs=10)
    assert found is not None
    assert isinstance(found.error, Stuck)


def test_timers_fire_when_nobody_can_go_on() -> None:
    class Sleeping:
        async def prepare(self, scheduler: Scheduler) -> Mapping[str, Callable[[], Awaitable[None]]]:
            self.order: list[str] = []

            async def sleep() -> None:
                await asyncio.sleep(3600)
                self.order.append("slept")

            async def work() -> None:
                await scheduler.step("work")
                self.order.append("worked")

            return {"sleep": sleep, "work": work}

        async def check(self) -> None:
            assert self.order == ["worked", "slept"]

    assert explore(Sleeping, runs=50).complete
