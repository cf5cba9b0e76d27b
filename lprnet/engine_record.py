"""The record beside a TensorRT plan: what it was built from, with and for.

A plan runs only with the TensorRT and on the kind of GPU that built it, and nothing inside tells
which weights it holds. Builder and server share this module; it needs the standard library only.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lprnet.errors import LprnetError

RECORD_SUFFIX = ".json"
"""`model.plan` -> `model.plan.json`."""


class EngineRecordError(LprnetError):
    """A plan without a readable record, or one that does not fit the machine or the model."""


@dataclass(frozen=True)
class EngineRecord:
    """How a plan came about.

    Attributes:
        flavour: "tensorrt" or "tensorrt-rtx".
        tensorrt_version: as the builder printed it, e.g. "10.13.3.9".
        gpu_name: e.g. "NVIDIA L4"; "" when built without a GPU, which proves the model and
            cannot be served.
        compute_capability: e.g. "8.9"; "" without a GPU.
        precision: "fp32", "fp16" or "int8".
        onnx_sha256: of the ONNX file that was given to the builder.
        plan_sha256: of the plan file.
        plate_spec_digest: of the spec in that ONNX.
        min_batch, opt_batch, max_batch: the optimisation profile.
        inputs, outputs: tensors as text, e.g. "image UINT8 [N, 3, 48, 96]".
        built_at: UTC, ISO 8601.
    """

    flavour: str
    tensorrt_version: str
    gpu_name: str
    compute_capability: str
    precision: str
    onnx_sha256: str
    plan_sha256: str
    plate_spec_digest: str
    min_batch: int
    opt_batch: int
    max_batch: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    built_at: str

    def to_json(self) -> str:
        """Text of the record file."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> EngineRecord:
        """Read `to_json`'s form. Raises EngineRecordError for anything else."""
        try:
            values: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise EngineRecordError(f"the engine record is not JSON: {error}") from error
        names = {field.name: field.type for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != set(names):
            raise EngineRecordError(
                f"the engine record must hold {', '.join(sorted(names))} and nothing else"
            )
        for name, kind in names.items():
            value = values[name]
            if kind == "int" and (not isinstance(value, int) or isinstance(value, bool)):
                raise EngineRecordError(f"engine record: {name} must be a whole number")
            if kind == "str" and not isinstance(value, str):
                raise EngineRecordError(f"engine record: {name} must be text")
            if str(kind).startswith("tuple"):
                if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
                    raise EngineRecordError(f"engine record: {name} must be a list of texts")
                values[name] = tuple(value)
        return cls(**values)


def record_path(plan: Path) -> Path:
    """Where the record of a plan lies."""
    return plan.with_name(plan.name + RECORD_SUFFIX)


def read_record(plan: Path) -> EngineRecord:
    """Record of a plan, after a check that the plan is the one it describes.

    Raises:
        EngineRecordError: when one of them is missing, unreadable, or they do not belong together.
    """
    path = record_path(plan)
    try:
        record = EngineRecord.from_json(path.read_text(encoding="utf-8"))
        digest = hashlib.sha256(plan.read_bytes()).hexdigest()
    except (OSError, UnicodeDecodeError) as error:
        raise EngineRecordError(
            f"cannot read {path.name} or its plan: {error}: {REBUILD}"
        ) from error
    if digest != record.plan_sha256:
        raise EngineRecordError(f"{plan.name} is not the plan of {path.name}: {REBUILD}")
    return record


REBUILD = "build it again with `lprnet engine MODEL.onnx --out model.plan` on this machine"


def check_record(
    record: EngineRecord,
    *,
    tensorrt_version: str,
    gpu_name: str,
    compute_capability: str,
    onnx_sha256: str,
    plate_spec_digest: str,
    largest_batch: int,
) -> None:
    """Refuse a plan that was not built for this server, this GPU and these weights.

    Args:
        tensorrt_version: of the server's TensorRT; a shorter one ("10.13.3") matches by its parts.
        gpu_name, compute_capability: of the GPU that shall run it, as `nvidia-smi
            --query-gpu=name,compute_cap` prints them.
        onnx_sha256, plate_spec_digest: of the model that the repository holds.
        largest_batch: `max_batch_size` of its config.pbtxt; the server sends 1 to so many.

    Raises:
        EngineRecordError: naming the first thing that differs and how to rebuild.
    """
    if not record.gpu_name:
        raise EngineRecordError(f"the plan was built on a machine without a GPU: {REBUILD}")
    if record.flavour != "tensorrt":
        raise EngineRecordError(
            f"the plan was built with {record.flavour}, which Triton does not load: {REBUILD}"
        )
    if not _same_version(record.tensorrt_version, tensorrt_version):
        raise EngineRecordError(
            f"the plan was built with TensorRT {record.tensorrt_version}, "
            f"the server has {tensorrt_version}: {REBUILD}"
        )
    for what, theirs, ours in (
        ("GPU", record.gpu_name, gpu_name),
        ("compute capability", record.compute_capability, compute_capability),
        ("ONNX digest", record.onnx_sha256, onnx_sha256),
        ("plate spec digest", record.plate_spec_digest, plate_spec_digest),
    ):
        if theirs != ours:
            raise EngineRecordError(
                f"the plan was built for {what} {_short(theirs)}, here it is {_short(ours)}: "
                f"{REBUILD}"
            )
    if record.min_batch > 1 or record.max_batch < largest_batch:
        raise EngineRecordError(
            f"the plan takes batches of {record.min_batch} to {record.max_batch}, the server's "
            f"config.pbtxt asks for 1 to {largest_batch}: {REBUILD}, with a profile of these"
        )


def gpu() -> tuple[str, str]:
    """(name, compute capability) of the first GPU, as nvidia-smi prints them; empty without."""
    try:
        run = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return "", ""
    if run.returncode != 0 or not run.stdout.strip():
        return "", ""
    name, _, capability = run.stdout.splitlines()[0].rpartition(",")
    return name.strip(), capability.strip()


def _same_version(built: str, server: str) -> bool:
    """Compare as many parts as the shorter one has; at least three must be known."""
    a, b = built.split("."), server.split(".")
    parts = min(len(a), len(b))
    return parts >= 3 and a[:parts] == b[:parts]


def _short(value: str) -> str:
    return value[:12] if len(value) == 64 else value
