"""Latency over throughput, and time by stage, as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import matplotlib as mpl

from load_tests import cases as names
from load_tests.cases import MANY, Case
from load_tests.figures import Figures
from load_tests.stages import PARTS, STAGES, Counters
from lprnet import contract

mpl.use("Agg")

import matplotlib.pyplot as plt

CURVES: Final = (
    (contract.CROP_ENSEMBLE, names.RAW_GRPC, "#1f6f8b"),
    (contract.IMAGE_ENSEMBLE, names.RAW_GRPC, "#2f9e44"),
    (names.PEER_SERVER, names.HTTP, "#c92a2a"),
)
PART_COLOURS: Final = ("#adb5bd", "#74c0fc", "#1864ab", "#ffd43b")
DPI: Final = 130


def draw_curves(figures: dict[Case, Figures], path: Path) -> None:
    """p50 (solid) and p99 (dashed) over throughput, single pictures, concurrency at the points."""
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for target, way, colour in CURVES:
        points = sorted(
            (case.concurrency, f)
            for case, f in figures.items()
            if (case.target, case.way, case.batch) == (target, way, 1)
        )
        if not points:
            continue
        rates = [f.plates_per_s for _, f in points]
        axes.plot(rates, [f.p50_ms for _, f in points], "o-", color=colour, label=f"{target} p50")
        axes.plot(rates, [f.p99_ms for _, f in points], ".--", color=colour, label="p99")
        for level, f in points:
            axes.annotate(
                str(level),
                (f.plates_per_s, f.p50_ms),
                textcoords="offset points",
                xytext=(4, -10),
                fontsize=8,
                color=colour,
            )
    axes.set(xlabel="plates per second", ylabel="latency of a request, ms", yscale="log")
    axes.set_title("Single pictures; the numbers are requests under way", fontsize=10)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def draw_stages(stages: dict[Case, dict[str, Counters]], path: Path) -> None:
    """Mean time of a request by stage and part for three telling cases of `lpr_image`."""
    model = contract.IMAGE_ENSEMBLE
    shown = [Case(model, names.RAW_GRPC, 1, 1), Case(model, names.RAW_GRPC, 1, MANY)]
    shown = [case for case in [*shown, Case(model, names.RAW_GRPC, MANY, 2)] if case in stages]
    figure, all_axes = plt.subplots(
        1, len(shown), figsize=(8, 2.8), layout="constrained", squeeze=False
    )
    for axes, case in zip(all_axes[0], shown, strict=True):
        found = stages[case]
        left = [0.0] * len(STAGES)
        for part, (name, colour) in enumerate(zip(PARTS, PART_COLOURS, strict=True)):
            widths = [found[stage].mean_ms(part) for stage in STAGES]
            axes.barh(STAGES, widths, left=left, color=colour, label=name.removeprefix("compute_"))
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.set_title(f"batch {case.batch}, {case.concurrency} at a time", fontsize=9)
        axes.set_xlabel("ms of a request", fontsize=8)
        axes.invert_yaxis()
        axes.tick_params(labelsize=8)
        if axes is not all_axes[0][0]:
            axes.set_yticklabels([])
    all_axes[0][0].legend(fontsize=7)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
