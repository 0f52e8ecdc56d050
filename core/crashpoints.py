"""Named instants at which tests stop the process, as a power cut would.

`reach("before-commit")` costs one comparison unless a point is armed. Armed by `ATOLL_CRASH_POINT=name` or
`name:N` (the Nth time it is reached, counted from 1), the process kills itself with SIGKILL: no handler, no flush.
`name:N@file` counts only while that file exists, so that a test can first bring the process under load.
Tests in the same process may instead `arm` a callable that raises or blocks.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from core.errors import ConfigError

VARIABLE = "ATOLL_CRASH_POINT"


class _State:
    __slots__ = ("action", "gate", "left", "name")

    def __init__(self) -> None:
        self.name: str | None = None
        self.left = 0
        self.action: Callable[[str], None] | None = None
        self.gate = ""


_state = _State()


def _kill(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(name: str, action: Callable[[str], None] | None = None, *, nth: int = 1, gate: str = "") -> None:
    """Do `action` (default: SIGKILL ourselves) the `nth` time that `name` is reached while the file `gate`, if one is
    named, exists. One point at a time."""
    _state.name, _state.left, _state.action, _state.gate = name, nth, action or _kill, gate


def disarm() -> None:
    _state.name = None


def arm_from_environment() -> None:
    """Arm what ATOLL_CRASH_POINT says, if anything. Raises ConfigError for a malformed value."""
    value = os.environ.get(VARIABLE, "")
    if not value:
        return
    point, _, gate = value.partition("@")
    name, colon, count = point.partition(":")
    if colon and not (count.isdecimal() and int(count) > 0):
        raise ConfigError(f"{VARIABLE}: {value!r} is not name, name:count or name:count@file")
    arm(name, nth=int(count) if colon else 1, gate=gate)


def reach(name: str) -> None:
    """Say that the program is at the point `name`."""
    if _state.name is None or _state.name != name:
        return
    if _state.gate and not os.path.exists(_state.gate):  # noqa: PTH110 - armed by a test only
        return
    _state.left -= 1
    if _state.left == 0 and _state.action is not None:
        action = _state.action
        disarm()
        action(name)


arm_from_environment()
