"""Chaos: faults injected into a real server under load, with a report.

Examples:
  python -m tests.chaos
  python -m tests.chaos --scale 0.1 --soak 60 --seed 7
  python -m tests.chaos --only stub_killed server_killed --no-watchdog
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from onnx_samples import write_onnx

from lprnet_cli import VERBS, load_verb
from serving import ServerOptions, ServingError
from serving.options import WatchdogOptions
from serving.watchdog import Watchdog

from . import faults, full_shm
from .scenarios import SCENARIOS, Run

READY_TIMEOUT_S = 300.0


def server_options(folder: Path) -> ServerOptions:
    """Options of a server on free ports whose weights read what a test paints."""
    repository = folder / "repository"
    load_verb(VERBS["repository"]).assemble(write_onnx(folder / "sample.onnx"), repository)
    return ServerOptions(
        repository=repository,
        profile="cpu",
        grpc_port=0,
        http_port=0,
        metrics_port=0,
        health_port=0,
        log_level="error",
        ready_timeout_s=READY_TIMEOUT_S,
    )


class Blind(Watchdog):
    """A watchdog that sees nothing: shows that the scenarios can fail."""

    def _step(self) -> None:
        self._case.stopping.wait(1)


def main(argv: list[str] | None = None) -> int:
    """Run scenarios; 0 when all are good."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [*SCENARIOS, "full_shm"]
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--scale", type=float, default=1.0, help="counts are multiplied by it")
    parser.add_argument("--soak", type=float, default=1800, metavar="S", help="length of the soak")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--no-watchdog", action="store_true", help="see the scenarios fail")
    parser.add_argument("--out", type=Path, default=Path("out/chaos"))
    args = parser.parse_args(argv)
    print(f"seed {args.seed}", flush=True)
    rows: list[dict[str, Any]] = []
    if args.no_watchdog:
        faults.PATIENCE_S = 20.0  # for a recovery that does not come
    kind = Blind if args.no_watchdog else Watchdog
    settings = WatchdogOptions(reloads_per_minute=10**6)
    with (
        tempfile.TemporaryDirectory() as folder,
        kind(server_options(Path(folder)), settings) as dog,
    ):
        for name in args.only:
            begin = time.monotonic()
            try:
                if name == "full_shm":
                    verdict = full_shm.run_apart()
                    if verdict is None:
                        print("full_shm: skipped, needs root (unshare -m)")
                        continue
                else:
                    run = Run(dog, random.Random(f"{args.seed}/{name}"), args.scale, args.soak)
                    verdict = SCENARIOS[name](run)
            except (AssertionError, OSError, ServingError) as error:  # nobody listens any more
                verdict = (False, {"error": f"{type(error).__name__}: {error}"})
            good, figures = verdict
            seconds = round(time.monotonic() - begin, 1)
            rows.append({"scenario": name, "good": good, "seconds": seconds, **figures})
            print(f"{'good' if good else 'BAD '} {name} {json.dumps(figures)}", flush=True)
    write_report(args, rows)
    return 0 if all(row["good"] for row in rows) else 1


def write_report(args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """report.json and report.md."""
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    facts = {"seed": args.seed, "scale": args.scale, "machine": machine, "rows": rows}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "report.json").write_text(json.dumps(facts, indent=2) + "\n")
    lines = [f"Seed {args.seed}, scale {args.scale:g}; {machine}.", ""]
    lines += ["| scenario | verdict | time | figures |", "|---|---|---|---|"]
    for row in rows:
        figures = {k: v for k, v in row.items() if k not in ("scenario", "good", "seconds")}
        verdict = "good" if row["good"] else "**bad**"
        shown = "; ".join(f"{key} {value}" for key, value in figures.items()).replace("|", "/")
        lines.append(f"| {row['scenario']} | {verdict} | {row['seconds']} s | {shown} |")
    (args.out / "report.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
