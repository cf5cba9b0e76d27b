"""Run locust headless against a server of its own, one report a shape.

Writes SHAPE.html and SHAPE_*.csv into the report folder and prints a table; exits 1 when a
request failed. For locust's web page start `lprnet serve` and
`locust -f load_tests/locustfile.py --host 127.0.0.1:8001`.

Examples:
  python -m load_tests.locust_run
  python -m load_tests.locust_run --shape spike --duration-s 60 --peak-users 128
  python -m load_tests.locust_run --shape soak --duration-s 1800 --url 127.0.0.1:8001
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from load_tests.local_server import bench_server
from load_tests.main import run_main
from load_tests.pictures import ROOT
from load_tests.shapes import SHAPES
from lprnet.errors import LprnetError

LOCUSTFILE: Final = Path(__file__).with_name("locustfile.py")
GRACE_S: Final = 60.0
"""For locust to start and to write its report."""


@dataclass(frozen=True)
class ShapeResult:
    """Totals of one run.

    Attributes:
        requests, failures: counts.
        rate: requests per second.
        p50_ms, p95_ms, p99_ms: latency.
        failure_classes: class of failure -> how often.
    """

    shape: str
    requests: int
    failures: int
    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    failure_classes: dict[str, int]


def run_shape(
    url: str, shape: str, duration_s: float, peak_users: int, folder: Path
) -> ShapeResult:
    """One headless locust.

    Raises:
        LprnetError: when locust ends otherwise than well or with failed requests.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / shape
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
    command += ["--host", url, "--shape", shape, "--duration-s", str(duration_s)]
    command += ["--peak-users", str(peak_users), "--html", f"{prefix}.html", "--csv", str(prefix)]
    command += ["--loglevel", "WARNING", "--only-summary", "--exit-code-on-error", "0"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=duration_s + GRACE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise LprnetError(f"locust did not end within {duration_s + GRACE_S:g} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip() or "no word").splitlines()[-1]
        raise LprnetError(f"locust ended with exit code {done.returncode}: {last}")
    return read_result(shape, prefix)


def read_result(shape: str, prefix: Path) -> ShapeResult:
    """Totals from locust's CSV files."""
    with Path(f"{prefix}_stats.csv").open(newline="", encoding="utf-8") as file:
        total = next(row for row in csv.DictReader(file) if row["Name"] == "Aggregated")
    with Path(f"{prefix}_failures.csv").open(newline="", encoding="utf-8") as file:
        classes = {row["Error"]: int(row["Occurrences"]) for row in csv.DictReader(file)}
    requests = int(total["Request Count"])
    if requests == 0:
        raise LprnetError(f"{shape}: no request was made")
    return ShapeResult(
        shape=shape,
        requests=requests,
        failures=int(total["Failure Count"]),
        rate=float(total["Requests/s"]),
        p50_ms=float(total["50%"]),
        p95_ms=float(total["95%"]),
        p99_ms=float(total["99%"]),
        failure_classes=classes,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the program."""
    add = parser.add_argument
    add("--shape", action="append", choices=SHAPES, help="again for several (default: all)")
    add("--duration-s", type=float, default=30.0, help="of each shape (default: %(default)g)")
    add("--peak-users", type=int, default=32, help="most users at a time (default: %(default)s)")
    add("--url", help="HOST:PORT of a running server (default: starts one)")
    add("--out", type=Path, default=ROOT / "out" / "locust", help="report folder")


def run(args: argparse.Namespace) -> int:
    """Run the shapes; 1 when a request failed."""
    if args.duration_s <= 0 or args.peak_users < 1:
        raise LprnetError("--duration-s must be above 0 and --peak-users at least 1")
    results = []
    with contextlib.ExitStack() as stack:
        url = args.url
        if url is None:
            url = stack.enter_context(bench_server()).grpc_url
        print(
            f"{'shape':<8}{'requests':>10}{'per s':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}"
            f"{'failed':>9}"
        )
        for shape in args.shape or SHAPES:
            result = run_shape(url, shape, args.duration_s, args.peak_users, args.out)
            results.append(result)
            print(
                f"{shape:<8}{result.requests:>10}{result.rate:>9.1f}{result.p50_ms:>9.1f}"
                f"{result.p95_ms:>9.1f}{result.p99_ms:>9.1f}{result.failures:>9}",
                flush=True,
            )
            for name, count in result.failure_classes.items():
                print(f"  {count} x {name}")
    print(f"reports: {args.out}/SHAPE.html")
    return int(any(result.failures for result in results))


if __name__ == "__main__":
    run_main("python -m load_tests.locust_run", sys.modules[__name__])
