"""Sweeps of perf_analyzer over the engine and both ensembles.

Starts a server of its own, sweeps concurrency for `lprnet`, `lpr` and `lpr_image` with plain gRPC
and system shared memory at batch 1, 8 and 32, then request rates at parts of the throughput that
was found. Writes perf_analyzer's own CSV of every sweep, a summary (summary.csv) and the table
that it prints (summary.md).

Examples:
  python -m load_tests.perf
  python -m load_tests.perf --quick
  python -m load_tests.perf --model lpr --batch 1 --batch 64 --window-ms 2000
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Final

from tqdm import tqdm

from load_tests.local_server import bench_server
from load_tests.main import run_main
from load_tests.perf_analyzer import fetch
from load_tests.perf_input import write_inputs
from load_tests.perf_run import MEMORIES, Point, Sweep, run_sweep
from load_tests.perf_table import write_summary
from load_tests.pictures import ROOT, find_pictures
from lprnet import contract
from lprnet.errors import LprnetError

MODELS: Final = (contract.ENGINE_MODEL, contract.CROP_ENSEMBLE, contract.IMAGE_ENSEMBLE)
BATCHES: Final = (1, 8, 32)
RATE_PARTS: Final = (0.25, 0.5, 0.75)
"""Request rates, as parts of the highest throughput at batch 1."""
PICTURES: Final = 64


def levels(batch: int) -> tuple[int, ...]:
    """Concurrencies that are worth measuring at a batch size: about 64 plates under way."""
    return {1: (1, 2, 32)}.get(batch, (1, 2))


def plan(models: list[str], batches: list[int], *, quick: bool) -> list[Sweep]:
    """Concurrency sweeps in the order in which they run."""
    memories = MEMORIES if not quick else MEMORIES[:1]
    return [
        Sweep(model, memory, batch, levels(batch)[:1] if quick else levels(batch))
        for batch in batches
        for model in models
        for memory in memories
    ]


def rate_plan(points: list[Point]) -> list[Sweep]:
    """One request-rate sweep a model, plain gRPC, batch 1."""
    sweeps = []
    for model in dict.fromkeys(point.model for point in points):
        memory = MEMORIES[0]
        rates = [
            point.plates_per_s
            for point in points
            if (point.model, point.memory, point.batch) == (model, memory, 1)
        ]
        if rates:
            steps = tuple(max(1, round(part * max(rates))) for part in RATE_PARTS)
            sweeps.append(Sweep(model, memory, 1, steps, by_rate=True))
    return sweeps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the program."""
    add = parser.add_argument
    add("--model", action="append", choices=MODELS, help="again for several (default: all)")
    add("--batch", action="append", type=int, help="again for several (default: 1, 8, 32)")
    add(
        "--url",
        help="HOST:PORT of a running server on this machine that lets clients share "
        "memory (default: starts one)",
    )
    add("--pictures", type=Path, metavar="FOLDER", help="what to send (default: see load_tests)")
    add("--window-ms", type=int, default=400, help="one of three windows (default: %(default)s)")
    add("--quick", action="store_true", help="one level, no shared memory, short windows")
    add("--out", type=Path, default=ROOT / "out" / "perf", help="folder for the results")


def run(args: argparse.Namespace) -> int:
    """Run the sweeps; 1 when a point has no figures."""
    batches = args.batch or ([1] if args.quick else list(BATCHES))
    if min(batches) < 1 or max(batches) > contract.MAX_BATCH_GPU:
        raise LprnetError(f"--batch takes 1 to {contract.MAX_BATCH_GPU}")
    if args.window_ms < 50:
        raise LprnetError("--window-ms takes 50 or more")
    binary = fetch()
    args.out.mkdir(parents=True, exist_ok=True)
    pictures = find_pictures(PICTURES, args.pictures)
    window_ms = min(args.window_ms, 200) if args.quick else args.window_ms
    with contextlib.ExitStack() as stack:
        # Pictures may be personal data: they do not stay among the results.
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        inputs = write_inputs(pictures, temporary)
        url = args.url
        if url is None:
            url = stack.enter_context(bench_server()).grpc_url
        points = _measure(args, batches, binary, inputs, url, window_ms)
    print(write_summary(points, pictures, args.out))
    print(f"results: {args.out}")
    return int(any(point.fault for point in points))


def _measure(
    args: argparse.Namespace,
    batches: list[int],
    binary: Path,
    inputs: dict[str, Path],
    url: str,
    window_ms: int,
) -> list[Point]:
    def run_all(what: str, sweeps: list[Sweep]) -> list[Point]:
        points: list[Point] = []
        for sweep in tqdm(sweeps, desc=what, unit="sweep", disable=not sys.stderr.isatty()):
            points += run_sweep(binary, url, sweep, inputs[sweep.model], window_ms, args.out)
        return points

    sweeps = plan(args.model or list(MODELS), batches, quick=args.quick)
    points = run_all("concurrency", sweeps)
    if not args.quick:
        points += run_all("request rate", rate_plan(points))
    return points


if __name__ == "__main__":
    run_main("python -m load_tests.perf", sys.modules[__name__])
