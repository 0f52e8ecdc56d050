"""`python shifted_clock.py SECONDS COMMAND…`: the command line of `atoll` with a wall clock that is wrong."""

from __future__ import annotations

import sys
import time

from gateway.wiring.main import main


def shift(seconds: float) -> None:
    """Let this process's wall clock be so far ahead."""
    real_ns, offset = time.time_ns, int(seconds * 1e9)
    time.time_ns = lambda: real_ns() + offset
    time.time = lambda: time.time_ns() / 1e9


if __name__ == "__main__":
    shift(float(sys.argv.pop(1)))
    main()
