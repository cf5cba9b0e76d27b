"""Prove that every form of a model reads the same plates.

Runs a checkpoint in PyTorch and its ONNX files in ONNX Runtime, OpenVINO and, where there is a
GPU, TensorRT over labelled pictures. Prints per set the largest difference of a probability, the
share of plates that read the same, and the exact match of each; exits 1 when one is past its
tolerance. The figures go into the record beside each ONNX that was compared.

Without --data it takes the folder named by LPRNET_DATA (its val/ sets), else trial pictures
without labels.

Examples:
  lprnet parity model.onnx --checkpoint runs/eu/best.pt --data data/val/eu data/val/us
  lprnet parity model.onnx --int8 model_int8.onnx --data data/val/eu
  lprnet parity model.onnx --plan model.plan            # on the GPU that built it
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from labelled import LabelledCrops, exact_match, load_set, run_batches
from runtimes import OnnxRuntimeRunner, OpenVinoRunner, Runner, TorchRunner, trial_pictures

from lprnet import contract
from lprnet.ctc import decode
from lprnet.errors import LprnetError
from lprnet.model_file import ModelError, ModelFacts, read_model_file, require_spec, verify
from lprnet.plate_spec import PlateSpec
from training.evaluation.options import positive
from training.shipped import named_weights

DATA_VARIABLE = "LPRNET_DATA"
TRIAL_PICTURES = 64


@dataclass(frozen=True)
class Tolerance:
    """What a form of the model may differ from the reference.

    Attributes:
        probability: largest difference of a probability, where both name the same class.
        same_percent: least share of plates that read the same.
        drop_points: most points of exact match that a set may lose.
    """

    probability: float
    same_percent: float
    drop_points: float


TOLERANCES = {
    "fp32": Tolerance(probability=1e-3, same_percent=100.0, drop_points=0.0),
    "fp16": Tolerance(probability=0.05, same_percent=99.0, drop_points=0.3),
    # Rounding to 8 bits moves probabilities of doubtful characters freely: plates are what counts.
    "int8": Tolerance(probability=1.0, same_percent=95.0, drop_points=0.3),
    # The engine serves INT8 with OpenVINO and FP32 with ONNX Runtime, which rounds differently.
    "int8 where FP32 serves": Tolerance(probability=1.0, same_percent=95.0, drop_points=1.0),
}


@dataclass(frozen=True)
class ParityRow:
    """One form of the model on one set, against the reference.

    Attributes:
        label: runtime and precision.
        count: pictures.
        difference: largest difference of a probability where both name the same class.
        same_percent: plates that read the same.
        accuracy, reference_accuracy: exact match in percent; None without labels.
        failures: what is past its tolerance, in words; empty when all is well.
    """

    set_name: str
    label: str
    count: int
    difference: float
    same_percent: float
    accuracy: float | None
    reference_accuracy: float | None
    failures: tuple[str, ...]

    def __str__(self) -> str:
        accuracy = "" if self.accuracy is None else f"  exact {self.accuracy:6.2f}"
        verdict = "; ".join(self.failures) if self.failures else "ok"
        return (
            f"{self.set_name:<22} {self.label:<20} n {self.count:>5}  diff {self.difference:.1e}"
            f"  same {self.same_percent:6.2f}{accuracy}  {verdict}"
        )


def compare(
    reference: Runner, others: Sequence[tuple[Runner, str]], labelled: LabelledCrops
) -> list[ParityRow]:
    """Compare runners with the reference on one set.

    Args:
        others: runners with the precision that fixes their tolerance.
        labelled: empty texts mean no labels.
    """
    ids, probs = run_batches(reference, labelled.crops)
    plates = decode(ids, probs, reference.spec).plates
    has_labels = any(labelled.texts)
    wanted = exact_match(plates, labelled.texts) if has_labels else None
    rows = []
    for runner, precision in others:
        other_ids, other_probs = run_batches(runner, labelled.crops)
        agree = ids == other_ids
        difference = float(np.abs(probs - other_probs)[agree].max(initial=0.0))
        other_plates = decode(other_ids, other_probs, runner.spec).plates
        same = exact_match(other_plates, plates)
        accuracy = exact_match(other_plates, labelled.texts) if has_labels else None
        rows.append(
            ParityRow(
                labelled.name,
                runner.label,
                len(labelled),
                difference,
                same,
                accuracy,
                wanted,
                _failures(TOLERANCES[precision], difference, same, accuracy, wanted),
            )
        )
    return rows


def _failures(
    tolerance: Tolerance,
    difference: float,
    same: float,
    accuracy: float | None,
    reference: float | None,
) -> tuple[str, ...]:
    failures = []
    if not difference <= tolerance.probability:  # a NaN fails too
        failures.append(f"probabilities differ by {difference:.2g} > {tolerance.probability:g}")
    if same < tolerance.same_percent:
        failures.append(f"only {same:.2f} % of plates read the same < {tolerance.same_percent:g}")
    if accuracy is not None and reference is not None:
        drop = reference - accuracy
        if drop > tolerance.drop_points:
            failures.append(f"loses {drop:.2f} points > {tolerance.drop_points:g}")
    return tuple(failures)


def picture_sets(data: Sequence[Path], spec: PlateSpec, limit: int | None) -> list[LabelledCrops]:
    """The sets named; else LPRNET_DATA's val/ sets; and always trial pictures."""
    roots = list(data)
    if not roots and os.environ.get(DATA_VARIABLE):
        val = Path(os.environ[DATA_VARIABLE]) / "val"
        roots = sorted(folder for folder in val.glob("*") if folder.is_dir())
        if not roots:
            raise LprnetError(f"{DATA_VARIABLE} names a folder without val/ sets: {val}")
    trial = trial_pictures(spec, TRIAL_PICTURES)
    blank = ("",) * TRIAL_PICTURES
    return [
        *(load_set(root, spec, limit) for root in roots),
        LabelledCrops("trial pictures", trial, blank, blank),
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `lprnet parity`."""
    parser.add_argument("model", type=Path, help="FP32 ONNX that `lprnet export` wrote")
    parser.add_argument(
        "--checkpoint",
        type=named_weights,
        metavar="CKPT",
        help="PyTorch weights that it was exported from; 'shipped' for our own",
    )
    parser.add_argument("--int8", type=Path, metavar="FILE", help="INT8 ONNX made from it")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="TensorRT plan made from it")
    parser.add_argument(
        "--data", type=Path, nargs="+", default=[], metavar="SET", help="labelled sets"
    )
    parser.add_argument("--limit", type=positive, help="at most so many pictures of each set")


def run(args: argparse.Namespace) -> int:
    """`lprnet parity`."""
    data = read_model_file(args.model)
    facts = verify(data, args.model.name)
    reference: Runner = OnnxRuntimeRunner(data, args.model.name)
    others: list[tuple[Runner, str]] = [(OpenVinoRunner(data, args.model.name), facts.precision)]
    if args.checkpoint is not None:
        from training.checkpoint import load_checkpoint  # only needed for PyTorch

        checkpoint = load_checkpoint(args.checkpoint)
        require_spec(facts, checkpoint.spec, args.model.name)
        others.insert(0, (reference, facts.precision))
        reference = TorchRunner(checkpoint.network, checkpoint.spec, facts.temperature)
        if checkpoint.temperature != facts.temperature:
            print(
                f"note: compared at {args.model.name}'s temperature {facts.temperature:g}; the "
                f"checkpoint has {checkpoint.temperature:g}: export again if it was fitted since"
            )
    int8_runners = [] if args.int8 is None else _int8_runners(args.int8, facts)
    others += int8_runners
    int8_labels = {runner.label for runner, _ in int8_runners}
    plan_label = None
    if args.plan is not None:
        from tensorrt_runner import TensorrtRunner  # only where there is a GPU

        plan = TensorrtRunner(args.plan, facts)
        others.append((plan, plan.record.precision))
        plan_label = plan.label
    rows = [
        row
        for labelled in picture_sets(args.data, facts.spec, args.limit)
        for row in compare(reference, others, labelled)
    ]
    print(f"reference: {reference.label} of {args.model.name}")
    for row in rows:
        print(row)
    passed = not any(row.failures for row in rows)
    int8 = [row for row in rows if row.label in int8_labels]
    # A plan has a record of its own kind; its rows are told here and decide the exit code.
    fp32 = [row for row in rows if row not in int8 and row.label != plan_label]
    _record(args.model, reference.label, fp32)
    if args.int8 is not None:
        _record(args.int8, reference.label, int8)
    print("parity holds" if passed else "parity FAILS")
    return 0 if passed else 1


def _int8_runners(path: Path, source: ModelFacts) -> list[tuple[Runner, str]]:
    data = read_model_file(path)
    facts = verify(data, path.name)
    require_spec(facts, source.spec, path.name)
    if facts.precision != "int8":
        raise ModelError(f"{path.name} is {facts.precision}, not int8")
    origin = facts.metadata.get(contract.META_SOURCE)
    if origin != source.weights_digest:
        raise ModelError(f"{path.name} was not made from this FP32 model: quantize it again")
    return [
        (OnnxRuntimeRunner(data, path.name), "int8 where FP32 serves"),
        (OpenVinoRunner(data, path.name), "int8"),
    ]


def _record(path: Path, reference: str, rows: Sequence[ParityRow]) -> None:
    """Write an ONNX's figures into the record beside it; export or quantize made it."""
    record = path.with_suffix(".json")
    try:
        values = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        digest = verify(path.read_bytes(), path.name).file_digest
        if values.get("onnx_sha256") != digest:
            values = {"onnx_sha256": digest}
        passed = not any(row.failures for row in rows)
        figures = [{**asdict(row), "failures": list(row.failures)} for row in rows]
        values["parity"] = {"passed": passed, "reference": reference, "rows": figures}
        record.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    except (OSError, ValueError) as error:
        raise LprnetError(f"cannot write the figures into {record.name}: {error}") from error
