"""Figures of the report as SVG text, drawn by matplotlib without a display."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.evaluation.measure import Measurement
from training.evaluation.robustness import DISTORTIONS, LEVELS, Curve
from training.evaluation.statistics import ACCEPTED_ACCURACY, coverage_curve, reliability

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, sharp, searchable
    "svg.hashsalt": "lprnet",  # the same figures give the same file
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
}


def _svg(figure: Figure) -> str:
    made = io.StringIO()
    figure.savefig(made, format="svg", metadata={"Date": None}, bbox_inches="tight")
    text = made.getvalue()
    return text[text.index("<svg") :]


def accuracy_bars(measurements: Sequence[Measurement]) -> str:
    """Exact match with its interval, sets side by side, a colour a reader."""
    readers = list(dict.fromkeys(m.reader for m in measurements))
    sets = list(dict.fromkeys(m.labelled.name for m in measurements))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(max(4.0, 1.6 * len(sets) + 2), 3))
        axes = figure.subplots()
        width = 0.8 / len(readers)
        for index, reader in enumerate(readers):
            mine = [m for m in measurements if m.reader == reader]
            at = [sets.index(m.labelled.name) + (index + 0.5) * width - 0.4 for m in mine]
            shares = np.array([m.scores.strict for m in mine])
            ends = np.array([m.scores.interval for m in mine])
            spread = 100 * np.abs(ends.T - shares)
            axes.bar(at, 100 * shares, width * 0.92, yerr=spread, capsize=2, label=reader)
        axes.set_xticks(range(len(sets)), sets)
        axes.set_ylabel("exact match, %")
        lowest = min(m.scores.interval[0] for m in measurements)
        axes.set_ylim(max(0, 100 * lowest - 5), 100)
        axes.legend(fontsize=8, loc="lower right")
        return _svg(figure)


def reliability_diagram(measurements: Sequence[Measurement]) -> str:
    """Accuracy against confidence in bins of equal count, a line a reader."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.6, 3.4))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
        for m in measurements:
            bins = reliability(m.answers.confidences, m.right)
            label = f"{m.reader} (ECE {m.scores.calibration_error:.3f})"
            axes.plot(
                [b.confidence for b in bins],
                [b.accuracy for b in bins],
                marker="o",
                markersize=3,
                linewidth=1,
                label=label,
            )
        axes.set_xlabel("mean confidence of the bin")
        axes.set_ylabel("share of right plates")
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.legend(fontsize=7, loc="upper left")
        return _svg(figure)


def coverage_plot(measurements: Sequence[Measurement]) -> str:
    """Accuracy of the accepted plates against the share that is accepted."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.4, 3.4))
        axes = figure.subplots()
        lowest = ACCEPTED_ACCURACY
        for m in measurements:
            share, accuracy, _ = coverage_curve(m.answers.confidences, m.right)
            lowest = min(lowest, float(accuracy[-1]))
            label = f"{m.reader} ({100 * m.scores.coverage.share:.0f} % accepted)"
            axes.plot(100 * share, 100 * accuracy, linewidth=1.2, label=label)
        axes.axhline(100 * ACCEPTED_ACCURACY, color="0.5", linestyle="--", linewidth=0.8)
        axes.set_ylim(100 * max(0.0, lowest - 0.02), 100.2)
        axes.set_xlabel("plates accepted, %")
        axes.set_ylabel("of those right, %")
        axes.legend(fontsize=7, loc="lower left")
        return _svg(figure)


def robustness_plot(curves: Sequence[Curve]) -> str:
    """One small diagram a distortion, a line with its 95 % band a reader."""
    names = list(dict.fromkeys(curve.distortion for curve in curves))
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    units = {d.name: d for d in DISTORTIONS}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.4 * columns, 2.5 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, name in zip(grid, names, strict=False):
            for curve in (c for c in curves if c.distortion == name):
                _curve(axes, curve)
            axes.set_title(name, fontsize=9)
            ticks = ["as is", *(f"{a:g}" for a in units[name].amounts)]
            axes.set_xticks(range(LEVELS + 1), ticks, fontsize=7)
            axes.set_xlabel(units[name].unit, fontsize=8)
            axes.set_ylim(0, 101)
        for axes in grid[len(names) :]:
            axes.set_axis_off()
        grid[0].set_ylabel("exact match, %")
        grid[0].legend(fontsize=7, loc="lower left")
        return _svg(figure)


def _curve(axes: Axes, curve: Curve) -> None:
    at = range(LEVELS + 1)
    low, high = zip(*curve.intervals, strict=True)
    (line,) = axes.plot(
        at, [100 * s for s in curve.shares], marker="o", markersize=2.5, label=curve.reader
    )
    axes.fill_between(
        at,
        [100 * x for x in low],
        [100 * x for x in high],
        color=line.get_color(),
        alpha=0.12,
        linewidth=0,
    )
