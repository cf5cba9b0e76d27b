"""What `bench` writes: HTML, JSON, Markdown tables, PNG curves."""

from __future__ import annotations

import base64
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import jinja2

from load_tests import cases as names
from load_tests.acceptance import Verdict
from load_tests.bench_plots import draw_curves, draw_stages
from load_tests.bursts import LATE_MS, PAUSE_S, Burst
from load_tests.cases import WAYS, Case
from load_tests.figures import Figures
from load_tests.stages import PARTS, STAGES, Counters
from lprnet import __version__

HEADER: Final = (
    "what",
    "how",
    "batch",
    "at a time",
    "plates/s",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "CPU ms/plate: server",
    "client",
    "memory MiB",
)
STAGE_HEADER: Final = (
    "case",
    "stage",
    "mean batch",
    "queue ms",
    "input ms",
    "infer ms",
    "output ms",
)


@dataclass(frozen=True)
class Result:
    """One run.

    Attributes:
        machine: what it ran on.
        engine: runtime and threads.
        pictures: their source; `picture_count` of them with `picture_bytes` on average.
        seconds, rounds: of the spells.
        figures: by case.
        stages: case -> model -> counters of Triton.
        bursts: single pictures that came at once.
        accuracy: target -> (right, labelled).
        verdicts: see `acceptance`.
    """

    machine: str
    engine: str
    pictures: str
    picture_count: int
    picture_bytes: int
    seconds: float
    rounds: int
    figures: dict[Case, Figures]
    stages: dict[Case, dict[str, Counters]]
    bursts: list[Burst]
    accuracy: dict[str, tuple[int, int]]
    verdicts: list[Verdict]

    @property
    def conditions(self) -> str:
        """One sentence that belongs under every table."""
        return (
            f"{self.machine}; {self.engine}; lprnet {__version__}; {self.picture_count} pictures "
            f"({self.pictures}), {self.picture_bytes:,} bytes on average; medians of {self.rounds} "
            f"interleaved spells of {self.seconds:g} s; client on the same CPUs."
        )


def machine() -> str:
    """Processor and number of CPUs that this process may use."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{len(os.sched_getaffinity(0))} CPUs ({model})"


def rows(figures: dict[Case, Figures]) -> list[tuple[str, ...]]:
    """Cells of the main table."""
    return [
        (
            case.target,
            case.way,
            str(case.batch),
            str(case.concurrency),
            f"{f.plates_per_s:,.0f}",
            f"{f.p50_ms:.2f}",
            f"{f.p95_ms:.2f}",
            f"{f.p99_ms:.2f}",
            f"{f.server_cpu_ms:.2f}",
            "" if case.way == names.IN_PROCESS else f"{f.client_cpu_ms:.2f}",
            f"{f.memory_mib:.0f}",
        )
        for case, f in figures.items()
    ]


def stage_rows(stages: dict[Case, dict[str, Counters]]) -> list[tuple[str, ...]]:
    """Cells of the table of stages, times per request."""
    return [
        (
            f"{case.target}, {case.way}, batch {case.batch}, {case.concurrency} at a time",
            model,
            f"{found[model].mean_batch:.1f}",
            *(f"{found[model].mean_ms(part):.2f}" for part in range(len(PARTS))),
        )
        for case, found in stages.items()
        for model in STAGES
        if model in found
    ]


def burst_rows(bursts: list[Burst]) -> list[tuple[str, ...]]:
    """Cells of the table of bursts."""
    return [
        (
            burst.model,
            str(burst.size),
            f"{burst.p50_ms:.2f}",
            f"{burst.p99_ms:.2f}",
            f"{burst.max_ms:.0f}",
            f"{burst.late} of {burst.requests}",
        )
        for burst in bursts
    ]


def verdict_rows(verdicts: list[Verdict]) -> list[tuple[str, ...]]:
    """Cells of the table of demands."""
    return [
        (
            verdict.what,
            "" if verdict.value is None else f"{verdict.value:.2f} {verdict.unit}",
            f"{'at most' if verdict.at_most else 'at least'} {verdict.floor:g} {verdict.unit}",
            f"{verdict.goal:g} {verdict.unit}",
            verdict.word,
        )
        for verdict in verdicts
    ]


def accuracy_rows(accuracy: dict[str, tuple[int, int]]) -> list[tuple[str, ...]]:
    """Cells of the table of exact match, strict."""
    return [
        (target, f"{right} / {count}", f"{100 * right / count:.1f} %")
        for target, (right, count) in accuracy.items()
        if count
    ]


def markdown(header: tuple[str, ...], cells: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, ("---",) * len(header), *cells]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


BURST_HEADER: Final = (
    "model",
    f"single pictures at once, then {1e3 * PAUSE_S:g} ms without",
    "p50 ms",
    "p99 ms",
    "slowest ms",
    f"over {LATE_MS:g} ms",
)
VERDICT_HEADER: Final = ("demand", "measured", "floor", "goal", "verdict")
ACCURACY_HEADER: Final = ("reader", "right", "exact match")


def write_report(result: Result, folder: Path) -> None:
    """Write all files."""
    folder.mkdir(parents=True, exist_ok=True)
    draw_curves(result.figures, folder / "curves.png")
    draw_stages(result.stages, folder / "stages.png")
    pictures = {
        name: base64.b64encode((folder / f"{name}.png").read_bytes()).decode("ascii")
        for name in ("curves", "stages")
    }
    template = Path(__file__).with_name("bench_report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    html = environment.from_string(template).render(
        result=result,
        ways=WAYS,
        tables=[
            ("Demands", VERDICT_HEADER, verdict_rows(result.verdicts)),
            (
                "Accuracy on the pictures of this run",
                ACCURACY_HEADER,
                accuracy_rows(result.accuracy),
            ),
            ("Speed", HEADER, rows(result.figures)),
            ("Bursts", BURST_HEADER, burst_rows(result.bursts)),
            ("Inside the server, per request", STAGE_HEADER, stage_rows(result.stages)),
        ],
        pictures=pictures,
    )
    (folder / "report.html").write_text(html, encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(to_json(result), indent=1), encoding="utf-8")
    tables = [
        markdown(HEADER, rows(result.figures)),
        markdown(VERDICT_HEADER, verdict_rows(result.verdicts)),
        markdown(ACCURACY_HEADER, accuracy_rows(result.accuracy)),
        markdown(BURST_HEADER, burst_rows(result.bursts)),
        markdown(STAGE_HEADER, stage_rows(result.stages)),
    ]
    text = "\n".join([*tables, result.conditions]) + "\n"
    (folder / "README_tables.md").write_text(text, encoding="utf-8")


def to_json(result: Result) -> dict[str, Any]:
    """Everything, for other programs."""
    return {
        "conditions": result.conditions,
        "cases": [{**asdict(case), **asdict(f)} for case, f in result.figures.items()],
        "stages": [
            {**asdict(case), "models": {name: asdict(c) for name, c in found.items()}}
            for case, found in result.stages.items()
        ],
        "bursts": [asdict(burst) for burst in result.bursts],
        "accuracy": {
            target: {"right": right, "labelled": count}
            for target, (right, count) in result.accuracy.items()
        },
        "verdicts": [{**asdict(verdict), "word": verdict.word} for verdict in result.verdicts],
    }


def print_summary(result: Result) -> None:
    """Main table and demands on standard output."""
    print(markdown(HEADER, rows(result.figures)))
    print(markdown(ACCURACY_HEADER, accuracy_rows(result.accuracy)))
    print(markdown(BURST_HEADER, burst_rows(result.bursts)))
    print(markdown(VERDICT_HEADER, verdict_rows(result.verdicts)))
    print(result.conditions)
