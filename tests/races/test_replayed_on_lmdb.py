"""The races again on the lmdb catalog and disk nodes: schedules of the model, with the timing of real threads."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.races.all_races import RACES
from tests.races.explorer import explore
from tests.races.live import replay, replayable
from tests.races.race import Race


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.__name__)
def test_race(race: type[Race], runs: int, tmp_path: Path) -> None:
    walked = explore(race, runs=runs // 5)
    schedules = list(map(replayable, walked.schedules, walked.labels))
    count = min(len(schedules), max(3, runs // 15))
    followed = passed_over = 0
    for number, schedule in enumerate(random.Random(race.__name__).sample(schedules, count)):
        done = asyncio.run(replay(race(), schedule, tmp_path / str(number)))
        followed += done.followed
        passed_over += done.passed_over
    assert followed > passed_over, "the recorded order was hardly followed"
