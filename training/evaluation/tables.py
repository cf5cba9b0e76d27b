"""Figures as plain-text tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from training.evaluation.measure import Measurement, Speed
from training.evaluation.robustness import Curve, mean_accuracy
from training.evaluation.scoring import Accuracy, GroupScore

OVERVIEW_HEADER = (
    "reader", "set", "n", "exact %", "95 % interval", "folded %", "CER %", "one-line", "two-line",
    "ECE (floor)", "accepted % at 99.5 %", "threshold",
)  # fmt: skip
GROUP_HEADER = ("", "n", "exact %", "95 % interval", "folded %", "CER %")
SPEED_HEADER = ("reader", "1 crop p50 ms", "p99 ms", "batch 32 ms/crop")


def percent(share: float, digits: int = 1) -> str:
    """0.9712 -> "97.1"."""
    return f"{100 * share:.{digits}f}"


def interval(accuracy: Accuracy) -> str:
    """95 % interval in percent, e.g. "94.8-98.4"."""
    low, high = accuracy.interval
    return f"{percent(low)}-{percent(high)}"


def overview_row(measurement: Measurement) -> tuple[str, ...]:
    """One reader on one set, cells of `OVERVIEW_HEADER`."""
    scores = measurement.scores
    total = scores.total

    def lines(key: str) -> str:
        group = scores.by_lines.get(key)
        return "-" if group is None else f"{group.strict.right}/{group.n}"

    return (
        measurement.reader,
        measurement.labelled.name,
        str(total.n),
        percent(total.strict.share),
        interval(total.strict),
        percent(total.folded.share),
        percent(total.character_error_rate, 2),
        lines("one line"),
        lines("two lines"),
        f"{scores.calibration_error:.3f} ({scores.calibration_floor:.3f})",
        percent(scores.coverage.share),
        f"{scores.coverage.threshold:.4f}",
    )


def group_rows(groups: Mapping[str, GroupScore]) -> list[tuple[str, ...]]:
    """Regions, sources or lines, cells of `GROUP_HEADER`."""
    return [
        (
            key or "unknown",
            str(group.n),
            percent(group.strict.share),
            interval(group.strict),
            percent(group.folded.share),
            percent(group.character_error_rate, 2),
        )
        for key, group in groups.items()
    ]


def speed_rows(speeds: Mapping[str, Speed]) -> list[tuple[str, ...]]:
    """Cells of `SPEED_HEADER`."""
    return [
        (name, f"{s.batch1_p50_ms:.2f}", f"{s.batch1_p99_ms:.2f}", f"{s.batch32_ms:.2f}")
        for name, s in speeds.items()
    ]


def robustness_table(curves: Sequence[Curve]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: mean exact match in percent over the levels 1..5, a column a reader."""
    readers = list(dict.fromkeys(curve.reader for curve in curves))
    means = {(curve.distortion, curve.reader): curve.mean for curve in curves}
    rows = [
        (name, *(percent(means[name, reader]) for reader in readers))
        for name in dict.fromkeys(curve.distortion for curve in curves)
    ]
    rows.append(("mean of all", *(percent(mean_accuracy(curves, r)) for r in readers)))
    return ("mean exact % over 5 levels", *readers), rows


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart; cells that start with a digit stand to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    right = [i > 0 and all(row[i][:1].isdigit() or row[i] == "-" for row in rows)
             for i in range(len(header))]  # fmt: skip

    def line(row: Sequence[str]) -> str:
        cells = (
            c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)
        )
        return "  ".join(cells).rstrip()

    return "\n".join([line(header), "  ".join("-" * w for w in widths), *map(line, rows)])
