"""Each race can fail: with the rule that it guards taken away, the explorer finds a schedule that breaks something."""

from __future__ import annotations

import pytest

from tests.races.all_races import GUARDED
from tests.races.explorer import find_violation
from tests.races.mutations import Mutation
from tests.races.race import Race

CASES = [(race, mutation) for race, guarded in GUARDED.items() for mutation in guarded]


@pytest.mark.parametrize(("race", "mutation"), CASES, ids=lambda one: getattr(one, "__name__", str(one)))
def test_the_explorer_finds_what_a_missing_rule_breaks(race: type[Race], mutation: Mutation) -> None:
    with mutation():
        found = find_violation(race, runs=2000)
    assert found is not None, "nothing broke: the race does not prove this rule"
