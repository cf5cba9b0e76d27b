"""How many CPUs a process may use."""

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
