"""Long steady load, and what the server keeps of it: memory, descriptors, shared memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from serving.guard import SHARED_MEMORY
from serving.watchdog import Watchdog

WARM_UP_PART = 0.2
"""Allocators reach their size in the first part; growth is counted from its end."""
MAX_GROWTH_PERCENT = 2.0


@dataclass(frozen=True)
class Sample:
    """What server and stubs hold at a moment."""

    memory_bytes: int
    descriptors: int
    segments_bytes: int


def sample(dog: Watchdog) -> Sample:
    """Proportional memory (PSS), so that what processes share counts once."""
    launched = dog.server.launched
    server = psutil.Process(launched.pid)
    family = [server, *server.children(recursive=True)]
    alive = [process for process in family if process.status() != psutil.STATUS_ZOMBIE]
    return Sample(
        sum(process.memory_full_info().pss for process in alive),
        sum(len(list(Path(f"/proc/{process.pid}/fd").iterdir())) for process in alive),
        sum(path.stat().st_size for path in SHARED_MEMORY.glob(launched.shm_prefix + "*")),
    )


def soak(dog: Watchdog, seconds: float) -> tuple[bool, dict[str, object]]:
    """Sample while somebody else puts the load on."""
    samples = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        samples.append(sample(dog))
        time.sleep(min(5.0, seconds / 20))
    warm = samples[int(len(samples) * WARM_UP_PART) :]
    third = max(1, len(warm) // 3)
    early = sum(entry.memory_bytes for entry in warm[:third]) / third
    late = sum(entry.memory_bytes for entry in warm[-third:]) / third
    growth = (late / early - 1) * 100
    descriptors = (warm[0].descriptors, warm[-1].descriptors)
    segments = (warm[0].segments_bytes, warm[-1].segments_bytes)
    good = (
        growth < MAX_GROWTH_PERCENT
        and descriptors[1] <= descriptors[0] + 2
        and segments[1] <= segments[0]
    )
    return good, {
        "seconds": seconds,
        "memory_mib": [round(early / 2**20, 1), round(late / 2**20, 1)],
        "memory_growth_percent": round(growth, 2),
        "descriptors": descriptors,
        "shared_memory_bytes": segments,
    }
