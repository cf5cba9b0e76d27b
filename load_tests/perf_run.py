"""One perf_analyzer run: its command line, and its CSV read back."""

from __future__ import annotations

import csv
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from load_tests.perf_analyzer import environment
from lprnet.errors import LprnetError

MEMORIES: Final = ("none", "system")
"""How pictures travel: inside the request, or in shared memory."""
OUTPUT_BYTES: Final = 65536
"""Room for an output tensor in shared memory; the largest here has 16 KiB at batch 256."""
TRIALS: Final = 10
LONGER: Final = 5
TIMEOUT_S: Final = 120.0
US_PER_MS: Final = 1e3


@dataclass(frozen=True)
class Sweep:
    """Several levels of load on one model.

    Attributes:
        model: its name.
        memory: one of `MEMORIES`.
        batch: pictures a request.
        levels: concurrencies, or requests per second.
        by_rate: which of the two.
    """

    model: str
    memory: str
    batch: int
    levels: tuple[int, ...]
    by_rate: bool = False


@dataclass(frozen=True)
class Point:
    """Figures at one level; all 0 where `fault` says why there are none.

    Attributes:
        plates_per_s: throughput.
        p50_ms, p95_ms, p99_ms: latency of a request at the client.
        server_ms, network_ms: mean parts of it: in the server (for an ensemble perf_analyzer
            cannot tell waiting from computing), and everything between client and server.
    """

    model: str
    memory: str
    batch: int
    level: int
    by_rate: bool
    plates_per_s: float = 0.0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    server_ms: float = 0.0
    network_ms: float = 0.0
    fault: str = ""


def run_sweep(
    binary: Path, url: str, sweep: Sweep, inputs: Path, window_ms: int, folder: Path
) -> list[Point]:
    """One perf_analyzer run a level; perf_analyzer's own ranges know equal steps only.

    A level without figures, on a machine too slow for the windows, is tried again with longer ones.
    """
    points = []
    for level in sweep.levels:
        point = _run_level(binary, url, sweep, level, inputs, window_ms, folder)
        if point.fault:
            longer_ms = LONGER * window_ms
            point = _run_level(binary, url, sweep, level, inputs, longer_ms, folder)
        points.append(point)
    return points


def command(
    binary: Path, url: str, sweep: Sweep, level: int, inputs: Path, window_ms: int, output: Path
) -> list[str]:
    """Arguments of perf_analyzer for one level."""
    kind = "--request-rate-range" if sweep.by_rate else "--concurrency-range"
    arguments = [str(binary), "-m", sweep.model, "-i", "grpc", "-u", url, "-b", str(sweep.batch)]
    arguments += [kind, str(level), "--input-data", str(inputs), "-f", str(output)]
    # Any three windows in a row will do: the spread is for the reader to judge.
    arguments += ["--measurement-interval", str(window_ms), "-s", "999", "-r", str(TRIALS)]
    if sweep.memory != MEMORIES[0]:
        arguments += ["--shared-memory", sweep.memory]
        arguments += ["--output-shared-memory-size", str(OUTPUT_BYTES)]
    return arguments


def _run_level(
    binary: Path, url: str, sweep: Sweep, level: int, inputs: Path, window_ms: int, folder: Path
) -> Point:
    kind = "rate" if sweep.by_rate else "concurrency"
    name = f"{sweep.model}-{sweep.memory}-batch{sweep.batch}-{kind}{level}"
    output = folder / f"{name}.csv"
    output.unlink(missing_ok=True)
    try:
        done = subprocess.run(
            command(binary, url, sweep, level, inputs, window_ms, output),
            env=environment(binary),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _point(sweep, level, fault=f"no end within {TIMEOUT_S:g} s")
    if done.returncode != 0 or not output.is_file():
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no word"]
        return _point(sweep, level, fault=lines[-1])
    return read_point(output, sweep, level)


def read_point(output: Path, sweep: Sweep, level: int) -> Point:
    """The last row of perf_analyzer's CSV.

    Raises:
        LprnetError: when the file has no figures.
    """
    with output.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise LprnetError(f"{output} holds no figures")
    row = {key: float(value) for key, value in rows[-1].items() if key and value}

    def total_ms(*columns: str) -> float:
        return sum(row.get(column, 0.0) for column in columns) / US_PER_MS

    return _point(
        sweep,
        level,
        plates_per_s=row["Inferences/Second"],
        p50_ms=total_ms("p50 latency"),
        p95_ms=total_ms("p95 latency"),
        p99_ms=total_ms("p99 latency"),
        server_ms=total_ms(
            "Server Queue", "Server Compute Input", "Server Compute Infer", "Server Compute Output"
        ),
        network_ms=total_ms("Network+Server Send/Recv", "Client Send", "Client Recv"),
    )


def _point(sweep: Sweep, level: int, fault: str = "", **figures: float) -> Point:
    return Point(
        sweep.model, sweep.memory, sweep.batch, level, sweep.by_rate, **figures, fault=fault
    )
