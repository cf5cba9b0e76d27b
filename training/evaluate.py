"""Measure readers on labelled sets: accuracy, confidence, speed, robustness.

Examples:
  lprnet evaluate ../shared/data/val/*
  lprnet evaluate my_plates --weights runs/mine/best.pt --html out/mine.html --json out/mine.json
  lprnet evaluate my_plates --onnx out/model.onnx --runtime openvino --peer cct_xs_v2_global
  lprnet evaluate my_plates --url 127.0.0.1:8001
  lprnet evaluate my_plates --url gate.example.com:8001 --ca-file ca.pem
  lprnet evaluate my_plates --peer cct_xs_v2_global --robustness --html out/robust.html
  lprnet evaluate my_plates --weights runs/mine/best.pt --fit-temperature

Every reader that is named is measured in the same run; without any, the shipped ONNX is. A set is
a folder in TAO, manifest, nomeroff or TEXT.jpg layout. The HTML embeds pictures of the plates that
were read wrong: keep it as private as the sets.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

from lprnet.errors import LprnetError
from lprnet.outputs import refuse_to_overwrite
from training.evaluation import tables
from training.evaluation.calibration import (
    CRITERIA,
    LIKELIHOOD,
    SetCalibration,
    TemperatureFit,
    calibrate,
)
from training.evaluation.measure import measure, measure_speed
from training.evaluation.options import (
    add_model_arguments,
    add_other_arguments,
    load_sets,
    open_models,
    open_others,
)
from training.evaluation.pictures import LabelledSet
from training.evaluation.readers import CheckpointReader, OnnxReader, Reader, require
from training.evaluation.result import Evaluation, write_json
from training.evaluation.robustness import LEVELS, measure_robustness
from training.shipped import SHIPPED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `lprnet evaluate`."""
    parser.add_argument(
        "sets", nargs="+", type=Path, metavar="SET", help="folders of labelled crops"
    )
    add_model_arguments(parser)
    add_other_arguments(parser)
    group = parser.add_argument_group("what to measure and write")
    group.add_argument("--json", type=Path, metavar="FILE", help="write all figures as JSON")
    group.add_argument("--html", type=Path, metavar="FILE", help="write a report with plots")
    group.add_argument(
        "--robustness", action="store_true", help="read the sets under graded distortions too"
    )
    group.add_argument(
        "--robustness-crops",
        type=int,
        default=400,
        metavar="N",
        help="distort so many crops, a fixed draw over all sets; 0 = all (default: %(default)s)",
    )
    group.add_argument("--no-speed", action="store_true", help="leave out the timing")
    group.add_argument("--brief", action="store_true", help="print no regions and sources")
    group.add_argument(
        "--fit-temperature",
        nargs="?",
        const=LIKELIHOOD,
        choices=CRITERIA,
        help="calibrate the one --weights CKPT on the sets and store the temperature in it: by the "
        "likelihood (default), or by the calibration error of the worst set, which a few wrong "
        "labels do not spoil",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate; returns 0."""
    if args.fit_temperature and len(args.weights) != 1:
        raise LprnetError("--fit-temperature needs exactly one --weights CKPT, which it changes")
    if args.fit_temperature and args.weights[0].exists() and SHIPPED.samefile(args.weights[0]):
        raise LprnetError(
            f"--fit-temperature would change the shipped weights: copy {SHIPPED} and name the copy"
        )
    for written in filter(None, (args.json, args.html)):
        refuse_to_overwrite(written, *args.weights, *args.onnx)
    if args.robustness_crops < 0:
        raise LprnetError("--robustness-crops must be 0 (all) or more")
    if args.html is not None:
        require("matplotlib", "train")
        require("jinja2", "train")
    with contextlib.ExitStack() as stack:
        models = open_models(args)
        readers: list[Reader] = [*models, *open_others(args)]
        for reader in readers:
            stack.enter_context(reader)
        sets = load_sets(args.sets)
        fit = _fit(models, sets, args.fit_temperature) if args.fit_temperature else None
        result = _evaluate(args, readers, sets, fit)
    if fit is not None:
        _store(args.weights[0], fit)
    if args.json is not None:
        write_json(result, args.json)
    if args.html is not None:
        from training.evaluation.report import write_html

        write_html(result, args.html)
    _print(result, brief=args.brief)
    return 0


def _evaluate(
    args: argparse.Namespace,
    readers: Sequence[Reader],
    sets: tuple[LabelledSet, ...],
    fit: TemperatureFit | None,
) -> Evaluation:
    measured = tuple(measure(reader, labelled) for reader in readers for labelled in sets)
    curves = (
        measure_robustness(readers, measured, sets, crops=args.robustness_crops)
        if args.robustness
        else []
    )
    pictures = [picture for labelled in sets for picture in labelled.readable]
    return Evaluation(
        sets=sets,
        descriptions={reader.name: reader.description for reader in readers},
        measurements=measured,
        threads=args.threads,
        speed={} if args.no_speed else measure_speed(readers, pictures),
        curves=tuple(curves),
        temperature=fit,
    )


def _fit(
    models: Sequence[CheckpointReader | OnnxReader], sets: tuple[LabelledSet, ...], criterion: str
) -> TemperatureFit:
    reader = next(model for model in models if isinstance(model, CheckpointReader))
    fit, parts = calibrate(reader, sets, criterion)
    reader.temperature = fit.temperature
    print(
        f"temperature {fit.temperature:.4f}, fitted on {fit.n} plates of {len(sets)} set(s) "
        f"by {criterion}"
    )
    print(
        f"calibration error {fit.error_before:.4f} -> {fit.error_after:.4f}, negative "
        f"log-likelihood {fit.nll_before:.4f} -> {fit.nll_after:.4f}"
    )
    header = ("set", "n", "ECE at T = 1", "ECE fitted", "ECE fitted on the other sets")
    print(tables.text_table(header, [_calibration_row(part) for part in parts]), end="\n\n")
    return fit


def _calibration_row(part: SetCalibration) -> tuple[str, ...]:
    held_out = "-" if part.error_held_out is None else f"{part.error_held_out:.4f}"
    return (
        part.name,
        str(part.n),
        f"{part.error_before:.4f}",
        f"{part.error_after:.4f}",
        held_out,
    )


def _store(path: Path, fit: TemperatureFit) -> None:
    from training.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(path)
    checkpoint.temperature = fit.temperature
    save_checkpoint(checkpoint, path)
    print(f"temperature {fit.temperature:.4f} stored in {path}: export it again to serve it")


def _print(result: Evaluation, *, brief: bool) -> None:
    rows = [tables.overview_row(m) for m in result.measurements]
    if len(result.sets) > 1:
        rows += [tables.overview_row(m) for m in result.pooled()]
    print(tables.text_table(tables.OVERVIEW_HEADER, rows))
    for labelled in result.sets:
        if labelled.unreadable:
            print(f"{labelled.name}: {len(labelled.unreadable)} unreadable, counted as wrong")
    if not brief:
        for m in result.measurements:
            for title, groups in (("source", m.scores.by_source), ("region", m.scores.by_region)):
                print(f"\n{m.reader} on {m.labelled.name}")
                header = (title, *tables.GROUP_HEADER[1:])
                print(tables.text_table(header, tables.group_rows(groups)))
    if result.speed:
        print(f"\nspeed, decoded pixels to text, {result.threads} thread(s), readers in turns")
        print(tables.text_table(tables.SPEED_HEADER, tables.speed_rows(result.speed)))
    if result.curves:
        n = result.curves[0].n
        print(f"\nrobustness, mean exact % over {LEVELS} levels of each distortion, {n} crops")
        print(tables.text_table(*tables.robustness_table(result.curves)))
