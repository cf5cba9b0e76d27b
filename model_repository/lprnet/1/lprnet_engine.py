"""The CPU engine: the exported ONNX on OpenVINO or, where that has no wheel, ONNX Runtime."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from lprnet import contract
from lprnet.cpus import usable_cpus
from lprnet.errors import LprnetError, SpecError
from lprnet.openvino_graph import OpenVinoGraph, read_graph
from lprnet.plate_spec import PlateSpec

RUNTIMES: Final = ("openvino", "onnxruntime")
"""In order of preference."""

UInt8Array = npt.NDArray[np.uint8]
EngineOutput = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class EngineOptions:
    """How the engine runs.

    Attributes:
        runtime: one of `RUNTIMES`, or "auto" for the first that is installed.
        threads: that compute at a time; 0 means every CPU that this process may use.
        hint: OpenVINO's performance hint, "LATENCY" or "THROUGHPUT". One instance that runs one
            batch at a time wants all threads on that batch: LATENCY.
        cache_dir: folder of OpenVINO's compiled-model cache; empty means none.
        warmup_batches: batch sizes that are run once at load, so that no client pays for them.
    """

    runtime: str = "auto"
    threads: int = 0
    hint: str = "LATENCY"
    cache_dir: str = ""
    warmup_batches: tuple[int, ...] = (1, 8)


class Engine(Protocol):
    """A loaded network.

    Attributes:
        description: runtime, its version and threads, for logs.
    """

    description: str

    def infer(self, images: UInt8Array) -> EngineOutput:
        """UINT8 [N, 3, 48, 96] RGB -> class ids INT32 [N, T] and probabilities FP32 [N, T]."""
        ...


@dataclass(frozen=True)
class Tensor:
    """Name, numpy type name and shape of an input or output; -1 is a free axis."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def choose_runtime(wanted: str) -> str:
    """`wanted` where it is installed; for "auto" the first of `RUNTIMES` that is.

    Raises:
        LprnetError: when it, or none, is installed.
    """
    installed = [name for name in RUNTIMES if importlib.util.find_spec(name) is not None]
    chosen = installed[:1] if wanted == "auto" else [wanted]
    if not chosen or chosen[0] not in installed:
        raise LprnetError(
            f"the runtime {wanted!r} is not installed beside Triton's Python: "
            f"pip install one of {', '.join(RUNTIMES)}"
        )
    return chosen[0]


def load_engine(path: Path, spec: PlateSpec, options: EngineOptions) -> Engine:
    """Compile an ONNX, check its inputs and outputs, run the warm-up batches.

    Raises:
        SpecError: when its tensors are not those of the contract and `spec`.
        LprnetError: when no runtime is installed or the runtime cannot read the file.
    """
    runtime = choose_runtime(options.runtime)
    threads = options.threads if options.threads > 0 else usable_cpus()
    loader = _OpenVino if runtime == "openvino" else _OnnxRuntime
    try:
        engine = loader(path, spec, options, threads)
    except LprnetError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no common base of their own
        reason = str(error).strip().splitlines()[-1].replace(str(path), path.name)
        raise LprnetError(f"{runtime} cannot run {path.name}: {reason}") from error
    for size in options.warmup_batches:
        engine.infer(np.zeros((size, *spec.image_shape), np.uint8))
    return engine


def check_tensors(name: str, inputs: list[Tensor], outputs: list[Tensor], spec: PlateSpec) -> None:
    """Raise SpecError unless a graph has the contract's tensors for `spec`."""
    steps = (-1, spec.time_steps)
    expected_inputs = [Tensor(contract.IMAGE, "uint8", (-1, *spec.image_shape))]
    expected_outputs = [
        Tensor(contract.CHAR_IDS, "int32", steps),
        Tensor(contract.CHAR_PROBS, "float32", steps),
    ]
    for kind, found, expected in (
        ("input", inputs, expected_inputs),
        ("output", outputs, expected_outputs),
    ):
        if sorted(found, key=_name) != sorted(expected, key=_name):
            raise SpecError(
                f"{name}: {kind}s are {_listed(found)}, expected {_listed(expected)}: "
                "export it again with `lprnet export`"
            )


def _name(tensor: Tensor) -> str:
    return tensor.name


def _listed(tensors: list[Tensor]) -> str:
    return ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in tensors)


class _OpenVino:
    def __init__(self, path: Path, spec: PlateSpec, options: EngineOptions, threads: int) -> None:
        model = read_graph(str(path))
        import openvino  # here: only one of the two need be installed

        check_tensors(
            path.name,
            [self._tensor(port) for port in model.inputs],
            [self._tensor(port) for port in model.outputs],
            spec,
        )
        self._graph = OpenVinoGraph(
            model,
            (contract.CHAR_IDS, contract.CHAR_PROBS),
            threads,
            hint=options.hint,
            cache_dir=options.cache_dir,
        )
        version = openvino.__version__.split("-")[0]
        self.description = f"OpenVINO {version}, {threads} threads, {options.hint.lower()}"

    @staticmethod
    def _tensor(port: Any) -> Tensor:
        shape = tuple(-1 if axis.is_dynamic else axis.get_length() for axis in port.partial_shape)
        return Tensor(port.any_name, port.element_type.to_dtype().name, shape)

    def infer(self, images: UInt8Array) -> EngineOutput:
        return self._graph(images)


class _OnnxRuntime:
    def __init__(self, path: Path, spec: PlateSpec, options: EngineOptions, threads: int) -> None:
        import onnxruntime  # here: only one of the two need be installed

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3  # errors only: Triton's log is the client's
        self._session = onnxruntime.InferenceSession(
            str(path), settings, providers=["CPUExecutionProvider"]
        )
        check_tensors(
            path.name,
            [self._tensor(port) for port in self._session.get_inputs()],
            [self._tensor(port) for port in self._session.get_outputs()],
            spec,
        )
        self.description = f"ONNX Runtime {onnxruntime.__version__}, {threads} threads"

    @staticmethod
    def _tensor(port: Any) -> Tensor:
        kinds = {"tensor(float)": "float32", "tensor(double)": "float64"}
        dtype = kinds.get(port.type, port.type.removeprefix("tensor(").removesuffix(")"))
        shape = tuple(axis if isinstance(axis, int) else -1 for axis in port.shape)
        return Tensor(port.name, dtype, shape)

    def infer(self, images: UInt8Array) -> EngineOutput:
        names = [contract.CHAR_IDS, contract.CHAR_PROBS]
        ids, probs = self._session.run(names, {contract.IMAGE: images})
        return ids, probs
