"""Every race of the design under many schedules: answers linearizable, nothing dangling, nothing leaked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.races.all_races import RACES
from tests.races.explorer import explore
from tests.races.race import Race
from tests.races.races_of_packs import LongRead


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.__name__)
def test_race(race: type[Race], runs: int, figure: Callable[[str], None]) -> None:
    LongRead.relocations = 0
    done = explore(race, runs=runs)
    assert done.complete or done.runs == runs
    figure(f"{done.runs} schedules of up to {done.longest} steps{', which are all' if done.complete else ''}")
    assert done.longest >= 6, "the actors do nothing"
    # A reader has met what that race is about: it looked again, and found the body where it had been moved to.
    assert race is not LongRead or LongRead.relocations > 0
