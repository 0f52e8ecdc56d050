"""The checker itself must tell a good history from a bad one."""

from __future__ import annotations

from typing import Any

from tests.harness.linearizability import NEVER, Applied, Operation, check


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
