"""The sweeps' figures as CSV and as one Markdown table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from load_tests.perf_run import Point
from load_tests.pictures import PictureSet

_HEAD = "| model | memory | batch | load | plates/s | p50 ms | p95 ms | p99 ms | server | network |"


def write_summary(points: Sequence[Point], pictures: PictureSet, folder: Path) -> str:
    """Write summary.csv and summary.md; returns the table."""
    with (folder / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Point)])
        writer.writeheader()
        writer.writerows(asdict(point) for point in points)
    text = (
        f"perf_analyzer, {len(pictures.pictures)} pictures ({pictures.source}), "
        f"{pictures.mean_bytes:,} bytes on average; server, network: mean ms of a request\n\n"
        + "\n".join([_HEAD, "|---" * 10 + "|", *map(_line, points)])
        + "\n"
    )
    (folder / "summary.md").write_text(text, encoding="utf-8")
    return text


def _line(point: Point) -> str:
    load = f"{point.level} a second" if point.by_rate else f"{point.level} at a time"
    start = f"| {point.model} | {point.memory} | {point.batch} | {load} | "
    if point.fault:
        return f"{start}{point.fault} | | | | | |"
    return start + (
        f"{point.plates_per_s:.0f} | {point.p50_ms:.2f} | {point.p95_ms:.2f} | "
        f"{point.p99_ms:.2f} | {point.server_ms:.2f} | {point.network_ms:.2f} |"
    )
