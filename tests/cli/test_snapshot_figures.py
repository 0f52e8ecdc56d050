"""The lag that metrics tell grows when the worker that looks for it stands still."""

from __future__ import annotations

from engine.snapshots.freshness import Freshness
from gateway.wiring.snapshots import Standstill


def test_a_look_that_is_not_made_anew_ages_once_patience_is_over() -> None:
    now = 100.0
    standstill = Standstill(lambda: now, 60.0)
    first = Freshness(exists=True)
    assert standstill.seconds(first) == 0.0
    now += 60.0
    assert standstill.seconds(first) == 0.0
    now += 1.0
    assert standstill.seconds(first) == 61.0
    assert standstill.seconds(Freshness(exists=True)) == 0.0, "an equal one, but of another look"
