"""Build a TensorRT plan from an exported ONNX.

Uses the TensorRT of the machine it runs on (10.x, 11.x) and writes a record beside the plan that
serving checks, so run it where the plan shall serve: `make engine` does so inside NVIDIA's
tritonserver container. With TensorRT-RTX it also runs on a machine without a GPU: that proves
that the model parses, has the right tensors and builds; such a plan cannot be served.

Examples:
  lprnet engine model.onnx --out model.plan --precision fp16
  lprnet engine model_int8.onnx --out model.plan --profile 1:16:256
  lprnet engine model.onnx --check                       # prove it, write nothing
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import onnx
from half import to_half
from tensorrt_network import FLAVOURS, PlanBuilder, Profile, find_tensorrt

from lprnet.contract import MAX_BATCH_GPU
from lprnet.engine_record import EngineRecord, gpu, record_path
from lprnet.errors import LprnetError
from lprnet.model_file import ModelError, ModelFacts, read_model_file, tensors, verify
from lprnet.outputs import refuse_to_overwrite

DEFAULT_PROFILE = f"1:16:{MAX_BATCH_GPU}"


@dataclass(frozen=True)
class Plan:
    """A plan and its record."""

    data: bytes
    record: EngineRecord


def build_plan(
    data: bytes,
    name: str,
    *,
    precision: str | None = None,
    profile: Profile | None = None,
    timing_cache: Path | None = None,
    flavour: str | None = None,
) -> Plan:
    """Signed ONNX -> plan.

    Args:
        data: bytes of the ONNX called `name`.
        precision: "fp32", "fp16" or "int8"; None takes the model's own. FP16 is made from an FP32
            model, INT8 is there already or not at all.
        profile: batch sizes; None takes 1:16:256.
        flavour: one of `tensorrt_network.FLAVOURS`; None takes what is installed.

    Raises:
        ModelError: when the model is refused or does not have that precision.
        EngineError: when TensorRT is missing, or refuses the model or the profile.
    """
    facts = verify(data, name)
    wanted = facts.precision if precision is None else precision
    profile = Profile.parse(DEFAULT_PROFILE) if profile is None else profile
    trt, flavour = find_tensorrt(flavour)
    builder = PlanBuilder(trt, name)
    builder.parse(_typed(data, facts, wanted, name))
    builder.check_tensors(facts.spec, facts.io)
    builder.add_profile(profile)
    plan = builder.build(timing_cache)
    gpu_name, compute_capability = gpu()
    image, *outputs = tensors(facts.spec, facts.io)
    record = EngineRecord(
        flavour=flavour,
        tensorrt_version=trt.__version__,
        gpu_name=gpu_name,
        compute_capability=compute_capability,
        precision=wanted,
        onnx_sha256=facts.file_digest,
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plate_spec_digest=facts.spec.digest,
        min_batch=profile.minimum,
        opt_batch=profile.optimum,
        max_batch=profile.maximum,
        inputs=(str(image),),
        outputs=tuple(map(str, outputs)),
        built_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return Plan(plan, record)


def _typed(data: bytes, facts: ModelFacts, precision: str, name: str) -> bytes:
    """ONNX whose types are the wanted precision."""
    if facts.precision == precision:
        return data
    if facts.precision == "fp32" and precision == "fp16":
        return bytes(to_half(onnx.load_from_string(data)).SerializeToString())
    if precision == "int8":
        raise ModelError(f"{name} is {facts.precision}: make the INT8 ONNX with `lprnet quantize`")
    raise ModelError(f"{name} is {facts.precision}: give the FP32 export to build {precision}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `lprnet engine`."""
    parser.add_argument("model", type=Path, help="ONNX of `lprnet export` or `lprnet quantize`")
    parser.add_argument("--out", type=Path, metavar="FILE", help="plan to write")
    parser.add_argument("--check", action="store_true", help="build to prove it, write nothing")
    parser.add_argument(
        "--precision", choices=("fp32", "fp16", "int8"), help="default: the model's own"
    )
    parser.add_argument(
        "--profile",
        default=DEFAULT_PROFILE,
        metavar="MIN:OPT:MAX",
        help="batch sizes (default %(default)s)",
    )
    parser.add_argument(
        "--timing-cache", type=Path, metavar="FILE", help="keep kernel timings between builds here"
    )
    parser.add_argument(
        "--flavour", choices=tuple(FLAVOURS), help="default: tensorrt, else tensorrt-rtx"
    )


def run(args: argparse.Namespace) -> int:
    """`lprnet engine`."""
    if (args.out is None) != args.check:
        raise LprnetError("name the plan to write with --out, or use --check without it")
    for written in (args.out, args.timing_cache):
        if written is not None:
            refuse_to_overwrite(written, args.model)
    plan = build_plan(
        read_model_file(args.model),
        args.model.name,
        precision=args.precision,
        profile=Profile.parse(args.profile),
        timing_cache=args.timing_cache,
        flavour=args.flavour,
    )
    record = plan.record
    where = record.gpu_name or "no GPU: proves the model, cannot be served"
    print(f"{args.model.name}: {record.flavour} {record.tensorrt_version}, {where}")
    print(f"{record.precision}, batch {args.profile}, {len(plan.data):,} bytes")
    if args.out is not None:
        try:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_bytes(plan.data)
            record_path(args.out).write_text(record.to_json(), encoding="utf-8")
        except OSError as error:
            raise LprnetError(f"cannot write {args.out}: {error.strerror}") from error
        print(f"{args.out} and {record_path(args.out).name}")
    return 0
