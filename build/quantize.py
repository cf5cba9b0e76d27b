"""Make the INT8 ONNX of an exported FP32 one.

Calibrates on labelled or synthetic sets, writes explicit Q/DQ that OpenVINO, ONNX Runtime and
TensorRT all run, and fails when exact match drops by more than --max-drop points on a check set
in OpenVINO, which serves INT8 (ONNX Runtime serves FP32; its figures are printed).
Of a few settings it takes the one that changes the answers least on a part of --data that does
not calibrate; the check sets play no part in that choice and are measured once. They may not share
a picture with --data. Without --check every fifth picture of --data is kept for it.

Examples:
  lprnet quantize model.onnx --data data/train/eu data/train/us --out model_int8.onnx \\
      --check data/val/eu data/val/us
  lprnet quantize model.onnx --data data/train/eu --out model_int8.onnx --finetune 300
  lprnet quantize model.onnx --data data/train/eu --check data/val/eu --compare   # all quantizers
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from export_onnx import require_onnx_name, tidy, write_model
from labelled import BATCH, LabelledCrops, exact_match, load_set, read_plates, split
from model_metadata import sign
from quantizers import QUANTIZERS, Feed, check_form, quantize_nncf
from recipes import RECIPES, Recipe, answers, disagreement, float_nodes
from runtimes import OnnxRuntimeRunner, OpenVinoRunner, Runner

from lprnet import contract
from lprnet.errors import LprnetError
from lprnet.model_file import ModelError, ModelFacts, read_model_file, tensors, verify
from lprnet.outputs import refuse_to_overwrite

RUNTIMES = (OpenVinoRunner, OnnxRuntimeRunner)
"""Both are measured, as `lprnet parity` does: they round differently."""

DEFAULT_MAX_DROP = 0.3
DEFAULT_CALIBRATION = 600
FINETUNE_PICTURES = 4000
"""Most pictures of a set that fine-tuning learns from."""


@dataclass(frozen=True)
class CheckRow:
    """Exact match of one set before and after, in percent, and how many plates read the same."""

    name: str
    count: int
    before: float
    after: float
    same: int

    @property
    def drop(self) -> float:
        """Points that quantization lost; negative where it gained."""
        return self.before - self.after

    def __str__(self) -> str:
        return (
            f"{self.name:<24} n {self.count:>5}  fp32 {self.before:6.2f}  int8 {self.after:6.2f}"
            f"  drop {self.drop:5.2f}  same plates {self.same}/{self.count}"
        )


def quantize(
    data: bytes,
    name: str,
    calibration: LabelledCrops,
    quantizer: str = "nncf",
    recipe: Recipe = RECIPES[0],
) -> tuple[bytes, ModelFacts]:
    """FP32 model -> signed INT8 model.

    Args:
        data: bytes of a signed FP32 ONNX called `name`.
        calibration: its pictures set the ranges of the activations; texts are not used.
        quantizer: one of `quantizers.QUANTIZERS`.
        recipe: settings of "nncf"; the others take all pictures and have none.

    Raises:
        ModelError: when the model is refused, is not FP32, or the result is not of the form that
            all runtimes share.
    """
    facts = verify(data, name)
    if facts.precision != "fp32":
        raise ModelError(f"{name} is {facts.precision} already: quantize the FP32 export")
    image = tensors(facts.spec, facts.io)[0]
    scale = np.float32(1 / 255)
    feeds: list[Feed] = [
        {image.name: crop[None] if facts.io == "lprnet" else crop[None].astype(np.float32) * scale}
        for crop in calibration.crops
    ]
    model = onnx.load_from_string(data)
    if quantizer == "nncf":
        model = quantize_nncf(model, feeds, float_nodes(model, recipe), recipe.widen)
        quantizer = f"nncf, {recipe.name}"
    else:
        model = QUANTIZERS[quantizer](model, feeds)
    return _signed(model, facts, quantizer, name)


def _signed(
    model: onnx.ModelProto, facts: ModelFacts, quantizer: str, name: str
) -> tuple[bytes, ModelFacts]:
    """Check the form of an INT8 graph and sign it with the papers of its FP32 model."""
    check_form(model)
    model = tidy(model, facts.spec, facts.io)
    extra = {
        **facts.metadata,
        contract.META_SOURCE: facts.weights_digest,
        contract.META_QUANTIZER: quantizer,
    }
    signed = sign(model, facts.spec, network=facts.network, precision="int8", extra=extra)
    return signed, verify(signed, name)


def search(
    data: bytes,
    name: str,
    calibration: LabelledCrops,
    selection: Sequence[LabelledCrops],
    steps: int = 0,
    training: LabelledCrops | None = None,
) -> tuple[bytes, ModelFacts]:
    """The attempt whose answers are nearest to the FP32 model's; the table goes to stdout.

    Args:
        selection: pictures that neither calibrate nor judge the result; texts are not used.
        steps: of fine-tuning, from the best recipe; 0 = none.
        training: pictures for it.
    """
    reference = answers(OpenVinoRunner(data, name), selection)  # FP32 is the same on both

    def differs(label: str, attempt: bytes) -> float:
        runners = [runner(attempt, name) for runner in RUNTIMES]
        found = float(
            np.mean([disagreement(reference, answers(runner, selection)) for runner in runners])
        )
        count = len(reference[0])
        print(f"{label:<28} differs from fp32 by {found:.5f} on {count} crops", flush=True)
        return found

    attempts = [(recipe, quantize(data, name, calibration, "nncf", recipe)) for recipe in RECIPES]
    distances = [differs(recipe.name, attempt[0]) for recipe, attempt in attempts]
    if not np.isfinite(distances).any():
        raise ModelError("no recipe gave an answer that can be compared")
    nearest = int(np.nanargmin(distances))
    recipe, best = attempts[nearest]
    if steps == 0 or training is None:
        return best
    from finetune_int8 import finetune  # needs PyTorch

    learnt = finetune(onnx.load_from_string(best[0]), onnx.load_from_string(data), training, steps)
    label = f"nncf, {recipe.name}, {steps} steps"
    tuned = _signed(learnt, verify(data, name), label, name)
    return tuned if differs(label, tuned[0]) < distances[nearest] else best


def check(before: Runner, after: Runner, sets: Sequence[LabelledCrops]) -> list[CheckRow]:
    """Exact match of both on every set."""
    rows = []
    for labelled in sets:
        old, new = read_plates(before, labelled.crops), read_plates(after, labelled.crops)
        rows.append(
            CheckRow(
                labelled.name,
                len(labelled),
                exact_match(old, labelled.texts),
                exact_match(new, labelled.texts),
                sum(a == b for a, b in zip(old, new, strict=True)),
            )
        )
    return rows


def gate(rows: Sequence[CheckRow], max_drop: float) -> None:
    """Raise ModelError when a set lost more than `max_drop` points."""
    for row in rows:
        if row.drop > max_drop:
            raise ModelError(
                f"INT8 loses {row.drop:.2f} points of exact match on {row.name}, more than "
                f"{max_drop:g}: calibrate on more or other data, or train with quantization in mind"
            )


def crops_per_cpu_second(runners: dict[str, Runner], turns: int = 20) -> dict[str, float]:
    """Throughput at batch 32, one thread; runners take turns, the best turn of each counts.

    Counted in processor time, so that other work on the machine takes no part of it away.
    """
    crops = np.random.default_rng(0).integers(0, 256, (BATCH, 3, 48, 96), dtype=np.uint8)
    best = dict.fromkeys(runners, float("inf"))
    for _ in range(turns):
        for name, runner in runners.items():
            start = time.process_time()
            runner(crops)
            best[name] = min(best[name], time.process_time() - start)
    return {name: BATCH / value for name, value in best.items()}


def compare(
    data: bytes, name: str, calibration: LabelledCrops, checks: Sequence[LabelledCrops]
) -> int:
    """Print what every quantizer makes of the model: accuracy, sameness and speed."""
    before = OpenVinoRunner(data, name)
    runners: dict[str, Runner] = {
        "fp32 OpenVINO": before,
        "fp32 ONNX Runtime": OnnxRuntimeRunner(data, name),
    }
    for quantizer in QUANTIZERS:
        int8, _ = quantize(data, name, calibration, quantizer)
        after = OpenVinoRunner(int8, name)
        runners[f"{quantizer} OpenVINO"] = after
        runners[f"{quantizer} ONNX Runtime"] = OnnxRuntimeRunner(int8, name)
        print(quantizer)
        for row in check(before, after, checks):
            print(f"  {row}")
    print(f"crops per CPU second, one thread, batch {BATCH}, best of 20 turns")
    for label, speed in crops_per_cpu_second(runners).items():
        print(f"  {label:<28} {speed:8.0f}")
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `lprnet quantize`."""
    parser.add_argument("model", type=Path, help="FP32 ONNX that `lprnet export` wrote")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="SET", help="calibration sets"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="INT8 ONNX to write")
    parser.add_argument(
        "--check", type=Path, nargs="+", default=[], metavar="SET", help="labelled sets of the gate"
    )
    parser.add_argument(
        "--max-drop",
        type=float,
        default=DEFAULT_MAX_DROP,
        metavar="POINTS",
        help="most points of exact match that a check set may lose (default %(default)s)",
    )
    parser.add_argument(
        "--count",
        type=int,
        default=DEFAULT_CALIBRATION,
        help="calibration pictures (default %(default)s)",
    )
    parser.add_argument(
        "--quantizer", choices=tuple(QUANTIZERS), default="nncf", help="default: %(default)s"
    )
    parser.add_argument(
        "--finetune",
        type=int,
        default=0,
        metavar="STEPS",
        help="also train the INT8 graph to answer like the FP32 one, 64 pictures a step, and keep "
        "it if it is nearer (nncf; default: no training; 300 steps take minutes on 2 cores)",
    )
    parser.add_argument(
        "--compare", action="store_true", help="compare the quantizers and write nothing"
    )


def run(args: argparse.Namespace) -> int:
    """`lprnet quantize`."""
    if args.count < 1:
        raise LprnetError(f"--count must be at least 1, not {args.count}")
    if args.finetune < 0 or (args.finetune > 0 and args.quantizer != "nncf"):
        raise LprnetError("--finetune takes a number of steps and works with --quantizer nncf")
    if (args.out is None) != args.compare:
        raise LprnetError("name the file to write with --out, or use --compare without it")
    if args.out is not None:
        refuse_to_overwrite(args.out, args.model)
        require_onnx_name(args.out)
    data = read_model_file(args.model)
    facts = verify(data, args.model.name)
    # A few times more than needed per set: the split draws from them.
    limit = 3 * args.count if args.finetune == 0 else max(3 * args.count, FINETUNE_PICTURES)
    sets = [load_set(root, facts.spec, limit) for root in args.data]
    checks = [load_set(root, facts.spec) for root in args.check]
    parts = split(sets, checks, args.count)
    if args.compare:
        return compare(data, args.model.name, parts.calibration, parts.checks)
    if args.quantizer == "nncf":
        int8, int8_facts = search(
            data,
            args.model.name,
            parts.calibration,
            parts.selection,
            args.finetune,
            parts.training,
        )
    else:
        int8, int8_facts = quantize(data, args.model.name, parts.calibration, args.quantizer)
    quantizer = int8_facts.metadata[contract.META_QUANTIZER]
    name = args.out.name
    figures = []
    judged: list[CheckRow] = []
    for runner in RUNTIMES:
        after = runner(int8, name)
        rows = check(runner(data, args.model.name), after, parts.checks)
        print(after.label)
        for row in rows:
            print(f"  {row}")
        if runner is OpenVinoRunner:  # ONNX Runtime serves FP32: its figures are told only
            judged += rows
        figures += [
            {
                "runtime": after.label,
                "set": row.name,
                "n": row.count,
                "fp32": row.before,
                "int8": row.after,
            }
            for row in rows
        ]
    gate(judged, args.max_drop)
    write_model(args.out, int8, int8_facts, quantizer=quantizer, accuracy_percent=figures)
    print(f"{args.out}: int8 of {facts.weights_digest[:12]}, {quantizer}")
    return 0
