"""Measured values: latencies of one spell of load, and medians over interleaved spells."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import psutil  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Spell:
    """One spell of load.

    Attributes:
        latencies_s: one per request, to the decoded answer.
        plates: that were read in all.
        wall_s: from the first request's start to the last one's end.
        client_cpu_s, server_cpu_s: CPU time of both sides, all their processes.
        memory_bytes: of the serving side, shared pages counted once (PSS).
    """

    latencies_s: tuple[float, ...]
    plates: int
    wall_s: float
    client_cpu_s: float
    server_cpu_s: float
    memory_bytes: int

    @property
    def plates_per_s(self) -> float:
        """Throughput."""
        return self.plates / self.wall_s

    def percentile_ms(self, percent: float) -> float:
        """Latency of a request, in milliseconds."""
        return float(np.percentile(self.latencies_s, percent)) * 1e3


@dataclass(frozen=True)
class Figures:
    """Medians over spells.

    Attributes:
        spells, requests: how much stands behind the figures.
        plates_per_s: throughput.
        spread: (highest - lowest) / median of the spells' throughput.
        p50_ms, p95_ms, p99_ms: latency of a request.
        client_cpu_ms, server_cpu_ms: CPU time per plate, the mean over all spells.
        memory_mib: of the serving side.
    """

    spells: int
    requests: int
    plates_per_s: float
    spread: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    client_cpu_ms: float
    server_cpu_ms: float
    memory_mib: float


def summarise(spells: Sequence[Spell]) -> Figures:
    """Medians of at least one spell."""

    def median(values: Iterable[float]) -> float:
        return float(statistics.median(values))

    plates = sum(spell.plates for spell in spells)
    rates = [spell.plates_per_s for spell in spells]
    return Figures(
        spells=len(spells),
        requests=sum(len(spell.latencies_s) for spell in spells),
        plates_per_s=median(rates),
        spread=(max(rates) - min(rates)) / median(rates),
        p50_ms=median(spell.percentile_ms(50) for spell in spells),
        p95_ms=median(spell.percentile_ms(95) for spell in spells),
        p99_ms=median(spell.percentile_ms(99) for spell in spells),
        # Sums, for the kernel counts CPU time in steps of 10 ms.
        client_cpu_ms=1e3 * sum(spell.client_cpu_s for spell in spells) / plates,
        server_cpu_ms=1e3 * sum(spell.server_cpu_s for spell in spells) / plates,
        memory_mib=median(spell.memory_bytes / 2**20 for spell in spells),
    )


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """CPU time that living processes have used so far, user and system."""
    return float(sum(t.user + t.system for t in (p.cpu_times() for p in processes)))


def memory_bytes(processes: Iterable[psutil.Process]) -> int:
    """Resident memory, a page that several processes share counted once (PSS)."""
    return sum(process.memory_full_info().pss for process in processes)
