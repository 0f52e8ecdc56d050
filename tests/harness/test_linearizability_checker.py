"""The checker itself must tell a good history from a bad one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness import linearizability
from tests.harness.linearizability import NEVER, Applied, Operation, check
from tests.harness.load import ABSENT, History, Write


def write(value: int, start: float, end: float, *, optional: bool = False) -> Operation:
    return Operation(f"write {value}", start, lambda _: Applied(value), end, optional)


def read(value: int | None, start: float, end: float) -> Operation:
    def step(state: Any) -> Applied | None:
        return Applied(state) if state == value else None

    return Operation(f"read {value}", start, step, end)


def test_a_sequential_history_passes() -> None:
    assert check([write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7)], None) is None


def test_a_stale_read_is_found() -> None:
    assert check([write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)], None) is not None


def test_a_lost_write_is_found() -> None:
    assert check([write(1, 0, 1), read(None, 2, 3)], None) is not None


def test_concurrent_writes_may_land_in_either_order() -> None:
    both = [write(1, 0, 10), write(2, 0, 10)]
    assert check([*both, read(1, 11, 12)], None) is None
    assert check([*both, read(2, 11, 12)], None) is None
    assert check([*both, read(1, 11, 12), read(2, 13, 14)], None) is not None


def test_a_write_without_an_answer_may_or_may_not_have_happened() -> None:
    lost = write(2, 1, NEVER, optional=True)
    assert check([write(1, 0, 0.5), lost, read(1, 2, 3)], None) is None
    assert check([write(1, 0, 0.5), lost, read(2, 2, 3)], None) is None
    assert check([write(1, 0, 0.5), lost, read(1, 2, 3), read(2, 4, 5), read(1, 6, 7)], None) is not None


def sees(value: str | None, start: float, end: float) -> Operation:
    return Operation(f"read {value}", start, lambda state: Applied(state) if state == value else None, end)


def told(*operations: Operation, shown: str | None = None) -> list[str]:
    """What a history of these says, the value `shown` having been seen at 50."""
    history = History()
    for operation in operations:
        history.add("key", operation)
    if shown is not None:
        history.shown["key"][shown] = 50.0
    return history.violations()


LOST = [
    Operation(f"write {number}", number, Write(f"lost {number}", over), optional=True)
    for number in range(40)
    for over in (ABSENT, "seen")
]


def test_many_writes_without_an_answer_are_as_good_as_one_unless_they_were_seen() -> None:
    first = Operation("write", 0, Write("seen"), 0.5)
    refused = Operation("create refused", 49, lambda state: Applied(state) if state is not ABSENT else None, 49.5)
    gone = Operation("delete", 48, Write(ABSENT), 48.5)
    lost = Operation("write", 2, Write("lost"), optional=True)
    assert not told(first, *LOST, lost, sees("lost", 49, 50), shown="lost")
    assert told(first, *LOST, sees("lost", 49, 50), shown="lost")
    assert told(first, *LOST, lost, sees("lost", 49, 50), sees("seen", 51, 52), shown="lost")
    assert not told(first, *LOST, gone, refused), "one of those that were lost came late"
    assert told(first, gone, refused)


def test_a_search_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linearizability, "MOST", 1000)
    unlike = [Operation(f"add {number}", 0, lambda state: Applied((state, 1)), 1) for number in range(20)]
    verdict = check([*unlike, read(1, 2, 3)], None)
    assert verdict is not None
    assert "no order found in 1,000 states" in verdict
