"""How many CPUs a process may use, and how many of them one of several instances."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cpus() -> int:
    """CPUs that this process may use: its affinity, cut by a cgroup (container) quota."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):  # no cgroup v2, or the root group
        return count
    if quota == "max":
        return count
    return max(1, min(count, int(quota) // int(period)))


def cpus_for_each(instances: int) -> int:
    """Threads of one of `instances` processes that work side by side, at least 1."""
    return max(1, usable_cpus() // instances)
