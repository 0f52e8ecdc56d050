"""A checker of histories: is there one order of the operations on a key that explains every answer?

Wing and Gong's search with Lowe's memoisation, as Porcupine does it. An operation is an interval and a function over
the key's state; one whose answer never came (the process died) may have happened at any time after it began, or never.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

State = Hashable
#: States looked at before the search is given up: about a gigabyte.
MOST = 500_000
#: Given the state before, the state after, or None where this operation can't have been answered so in that state.
Step = Callable[[State], "Applied | None"]

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Applied:
    state: State


@dataclass(slots=True)
class Operation:
    """One call as its client saw it. `end` is NEVER when no answer came."""

    name: str
    start: float
    step: Step
    end: float = NEVER
    optional: bool = field(default=False)  # no answer: it may not have happened at all


def check(operations: Sequence[Operation], initial: State) -> str | None:
    """None when the history is linearizable, else a description of where the search got stuck.

    Of optional operations whose steps are equal the earliest is tried first: nothing tells them apart, so any order
    that takes a later one instead is as good with the earlier one in its place.
    """
    ordered = sorted(operations, key=lambda operation: operation.start)
    twins = _twins(ordered)
    required = sum(1 << index for index, operation in enumerate(ordered) if not operation.optional)
    seen: set[tuple[int, State]] = set()
    stack: list[tuple[int, State]] = [(0, initial)]
    best = (0, initial)
    while stack:
        done, state = stack.pop()
        if done & required == required:
            return None
        if (done, state) in seen:
            continue
        seen.add((done, state))
        if len(seen) > MOST:
            break
        if (done & required).bit_count() > (best[0] & required).bit_count():
            best = (done, state)
        # What is tried first is pushed last: who ended first, and what may never have happened only where it must have.
        for index in sorted(_next(ordered, done), key=lambda index: (ordered[index].end, index), reverse=True):
            if index in twins and not done >> twins[index] & 1:
                continue
            applied = ordered[index].step(state)
            if applied is not None:
                stack.append((done | 1 << index, applied.state))
    stuck = [operation for index, operation in enumerate(ordered) if not best[0] >> index & 1]
    shown = "\n".join(f"  {one.start:.6f}..{one.end:.6f} {one.name}" for one in stuck[:12])
    found = "no order explains the answers" if len(seen) <= MOST else f"no order found in {MOST:,} states"
    return f"{found}; in state {best[1]!r} none of these fits:\n{shown}"


def _twins(ordered: Sequence[Operation]) -> dict[int, int]:
    """The optional operation before each that has an equal step."""
    last: dict[Step, int] = {}
    twins = {}
    for index, operation in enumerate(ordered):
        if operation.optional and operation.end == NEVER:
            if operation.step in last:
                twins[index] = last[operation.step]
            last[operation.step] = index
    return twins


def _next(ordered: Sequence[Operation], done: int) -> list[int]:
    """Who can be placed next: those that began before the earliest end among all that are still to be placed."""
    left = ((1 << len(ordered)) - 1) & ~done
    horizon = NEVER
    found = []
    while left:
        lowest = left & -left
        index = lowest.bit_length() - 1
        if ordered[index].start > horizon:
            break
        horizon = min(horizon, ordered[index].end)
        found.append(index)
        left ^= lowest
    return found
