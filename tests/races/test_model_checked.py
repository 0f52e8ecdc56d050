"""Every race of the design under many schedules: answers linearizable, nothing dangling, nothing leaked."""

from __future__ import annotations

import pytest

from tests.races.explorer import explore
from tests.races.race import Race
from tests.races.scenarios import RACES, LongRead


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.__name__)
def test_race(race: type[Race], runs: int) -> None:
    done = explore(race, runs=runs)
    assert done.complete or done.runs == runs
    assert done.longest >= len(race.__mro__), "the actors do nothing"


def test_a_long_read_finds_what_was_moved(runs: int) -> None:
    """The mechanism of the race above was met, not only survived: the reader looked again and found the body."""
    LongRead.relocations = 0
    explore(LongRead, runs=runs)
    assert LongRead.relocations > 0
