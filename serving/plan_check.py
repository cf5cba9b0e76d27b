"""Whether a TensorRT plan may be served: built for this TensorRT, this GPU and these weights.

Triton would load a plan of other weights without a word, and tell of a foreign version only in
its log.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc.model_config_pb2 import ModelConfig  # type: ignore[import-untyped]

from lprnet import contract
from lprnet.engine_record import EngineRecordError, check_record, gpu, read_record
from lprnet.plate_spec import PlateSpec
from serving.errors import PreflightError
from serving.find import Installation

PLAN: Final = "model.plan"
BACKEND_LIBRARY: Final = "libtriton_tensorrt.so"
_ASK: Final = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).getInferLibVersion())"


@dataclass(frozen=True)
class GpuMachine:
    """What a plan must have been built for.

    Attributes:
        tensorrt_version: of the library that Triton's TensorRT backend loads, e.g. "10.13.3".
        gpu_name, compute_capability: of the first GPU, e.g. "NVIDIA L4" and "8.9".
    """

    tensorrt_version: str
    gpu_name: str
    compute_capability: str


def read_machine(installation: Installation) -> GpuMachine:
    """Ask the server's TensorRT and the GPU.

    Raises:
        PreflightError: when one of them does not answer.
    """
    name, capability = gpu()
    if not name:
        raise PreflightError("nvidia-smi names no GPU: start the container with --gpus all")
    return GpuMachine(_tensorrt_version(installation.backends / "tensorrt"), name, capability)


def _tensorrt_version(backend: Path) -> str:
    """Version of the libnvinfer that the backend is linked with."""
    try:
        names = re.findall(rb"libnvinfer\.so\.\d+", (backend / BACKEND_LIBRARY).read_bytes())
    except OSError as error:
        raise PreflightError(f"cannot read {BACKEND_LIBRARY}: {error.strerror}") from error
    if not names:
        raise PreflightError(f"{BACKEND_LIBRARY} names no libnvinfer: reinstall tritonserver")
    library = names[0].decode("ascii")
    try:
        # In a process of its own: the library stays out of this one.
        asked = subprocess.run(
            [sys.executable, "-I", "-c", _ASK, library],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PreflightError(
            f"{library} of Triton's TensorRT backend does not load: use NVIDIA's tritonserver "
            "container"
        ) from error
    return version_text(int(asked.stdout))


def version_text(number: int) -> str:
    """NV_TENSORRT_VERSION (NvInferVersion.h): 101303 -> "10.13.3", 8601 -> "8.6.1"."""
    base = 10_000 if number >= 10_000 else 1_000
    return f"{number // base}.{number % base // 100}.{number % 100}"


def _largest_batch(config: Path) -> int:
    try:
        text = config.read_text(encoding="utf-8")
        return int(text_format.Parse(text, ModelConfig()).max_batch_size)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise EngineRecordError(f"cannot read {config}: {error}") from error


def check_plan(folder: Path, machine: GpuMachine) -> None:
    """Check `model.plan` in the engine's version folder.

    Raises:
        EngineRecordError: naming the first thing that differs and how to rebuild.
    """
    record = read_record(folder / PLAN)
    source = contract.INT8_MODEL_FILE if record.precision == "int8" else contract.MODEL_FILE
    path = (folder / source).with_suffix(Path(contract.MODEL_RECORD_FILE).suffix)
    try:
        onnx_sha256 = json.loads(path.read_text(encoding="utf-8"))["onnx_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineRecordError(
            f"the plan was built from an {record.precision} ONNX, and {path.name} does not name "
            "one: run `lprnet repository` with it"
        ) from error
    check_record(
        record,
        tensorrt_version=machine.tensorrt_version,
        gpu_name=machine.gpu_name,
        compute_capability=machine.compute_capability,
        onnx_sha256=onnx_sha256,
        plate_spec_digest=PlateSpec.from_file(folder / contract.SPEC_FILE).digest,
        largest_batch=_largest_batch(folder.parent / "config.pbtxt"),
    )
