"""What processes use."""

from __future__ import annotations

import os
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def family_cpu(pid: int) -> float:
    """CPU seconds of a process, of its children that ended, and of those that run (not of theirs)."""
    total = 0.0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if entry.name == str(pid):
            total += sum(map(int, fields[11:15])) / _TICK
        elif fields[1] == str(pid):
            total += sum(map(int, fields[11:13])) / _TICK
    return total


def memory(pid: int) -> int:
    """Proportional set size in bytes of a process and its children."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            total += int(line.split()[1]) * 1024
    for task in Path(f"/proc/{pid}/task").iterdir():
        children = (task / "children").read_text().split()
        total += sum(memory(int(child)) for child in children)
    return total
