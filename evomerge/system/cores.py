"""How many processor cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

THREADS_VARIABLE = "OMP_NUM_THREADS"
"""The environment variable by which users and schedulers say how many threads a process may have."""


def usable_cores(system: Path = Path("/")) -> int:
    """Return how many cores this process may keep busy; at least 1.

    That is the least of the cores that it may run on, what its container is allowed (a quota of the control group; a
    part of a core is a whole one), and OMP_NUM_THREADS where it is set.

    Args:
        system: the folder that holds /proc and /sys.
    """
    limits = [_allowed(), *_quotas(system)]
    given = os.environ.get(THREADS_VARIABLE, "").split(",")[0].strip()
    if given.isdigit() and int(given) > 0:
        limits.append(int(given))
    return max(1, min(limits))


def _allowed() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on every system
        return os.cpu_count() or 1


def _quotas(system: Path) -> list[int]:
    """Return the quotas of the control group, of either version, in whole cores."""
    group = system / "sys/fs/cgroup"
    second = _numbers(group / "cpu.max")
    first = [*_numbers(group / "cpu/cpu.cfs_quota_us"), *_numbers(group / "cpu/cpu.cfs_period_us")]
    return [math.ceil(quota / period) for quota, period in (pair for pair in (second, first) if len(pair) == 2)
            if quota > 0 and period > 0]  # fmt: skip


def _numbers(path: Path) -> list[int]:
    """Return the whole numbers that a file holds; "max" and a missing file give none."""
    try:
        words = path.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []
    return [int(word) for word in words if word.lstrip("-").isdigit()]
