"""ONNX -> TensorRT network and plan, for TensorRT 10.x, 11.x and TensorRT-RTX alike.

All three are driven through the strongly typed network: precision comes from the ONNX and
nothing else. What the parser or builder only warns about, but which makes answers wrong, is an
error here.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tqdm import tqdm

from lprnet.errors import LprnetError
from lprnet.model_file import tensors
from lprnet.onnx_outline import TensorInfo
from lprnet.plate_spec import PlateSpec

FLAVOURS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Flavour -> Python module, in order of preference: Triton loads plans of the first one only."""

_WRONG_ANSWERS = ("UINT8 zero_point",)
"""Warnings after which a plan computes something else than its ONNX."""

_WORKSPACE_BYTES = 1 << 30


class EngineError(LprnetError):
    """A model that TensorRT cannot build, or builds into something else than the contract."""


@dataclass(frozen=True)
class Profile:
    """Batch sizes of the optimisation profile.

    Raises:
        EngineError: unless 1 <= minimum <= optimum <= maximum.
    """

    minimum: int = 1
    optimum: int = 8
    maximum: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.optimum <= self.maximum:
            raise EngineError(
                f"profile {self}: give MIN:OPT:MAX batch sizes with 1 <= MIN <= OPT <= MAX"
            )

    def __str__(self) -> str:
        return f"{self.minimum}:{self.optimum}:{self.maximum}"

    @classmethod
    def parse(cls, text: str) -> Profile:
        """Read "MIN:OPT:MAX". Raises EngineError."""
        parts = text.split(":")
        if len(parts) != 3 or not all(part.isdecimal() for part in parts):
            raise EngineError(f"profile {text!r}: give MIN:OPT:MAX batch sizes, e.g. 1:8:64")
        return cls(*map(int, parts))


def find_tensorrt(flavour: str | None = None) -> tuple[ModuleType, str]:
    """The installed TensorRT module and its flavour.

    Raises:
        EngineError: when none is installed.
    """
    for name in FLAVOURS if flavour is None else [flavour]:
        try:
            return importlib.import_module(FLAVOURS[name]), name
        except ModuleNotFoundError:
            continue
    raise EngineError(
        "no TensorRT for Python is installed: run inside NVIDIA's tritonserver container "
        "(`make engine`), or pip install tensorrt-rtx-cu13 to check a model without a GPU"
    )


class PlanBuilder:
    """One model on its way to a plan.

    Args:
        trt: module `tensorrt` or `tensorrt_rtx`.
        name: how messages call the model.
    """

    def __init__(self, trt: ModuleType, name: str) -> None:
        self._trt: Any = trt
        self._name = name
        self._log = _make_logger(trt)
        self._builder = self._trt.Builder(self._log)
        flag = int(self._trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        self.network = self._builder.create_network(1 << flag)
        self.config = self._builder.create_builder_config()

    def parse(self, data: bytes) -> None:
        """Fill the network from an ONNX file. Raises EngineError naming node and reason."""
        parser = self._trt.OnnxParser(self.network, self._log)
        if not parser.parse(data):
            error = parser.get_error(0)
            node = f" (node {error.node_name()!r})" if error.node_name() else ""
            raise EngineError(
                f"{self._name}: TensorRT's ONNX parser refuses it{node}: {_line(error.desc())}"
            )
        for warning in self._log.warnings:
            if any(sign in warning for sign in _WRONG_ANSWERS):
                raise EngineError(f"{self._name}: the plan would be wrong: {_line(warning)}")

    def check_tensors(self, spec: PlateSpec, io: str) -> None:
        """Raise EngineError unless inputs and outputs are the contract's."""
        wanted = tensors(spec, io)
        network = self.network
        found = [
            *(self._info(network.get_input(i)) for i in range(network.num_inputs)),
            *(self._info(network.get_output(i)) for i in range(network.num_outputs)),
        ]
        if network.num_inputs != 1 or set(found) != set(wanted):
            raise EngineError(
                f"{self._name}: TensorRT sees {'; '.join(map(str, found))}; "
                f"needed are {'; '.join(map(str, wanted))}"
            )

    def add_profile(self, profile: Profile) -> None:
        """Set the batch sizes. Raises EngineError when TensorRT refuses them."""
        image = self.network.get_input(0)
        shape = tuple(image.shape)[1:]
        sizes = profile.minimum, profile.optimum, profile.maximum
        entry = self._builder.create_optimization_profile()
        shapes = [(size, *shape) for size in sizes]
        entry.set_shape(image.name, *shapes)
        # TensorRT takes any profile here, even for a fixed batch, and complains at run time only.
        taken = [tuple(found) for found in entry.get_shape(image.name)]
        fixed = image.shape[0] != -1
        if self.config.add_optimization_profile(entry) != 0 or taken != shapes or fixed:
            why = f": its batch is fixed at {image.shape[0]}" if fixed else ""
            raise EngineError(f"{self._name} cannot have the profile {profile}{why}")

    def build(self, timing_cache: Path | None = None) -> bytes:
        """Serialized plan.

        Args:
            timing_cache: file that keeps kernel timings between builds; made when missing.

        Raises:
            EngineError: with TensorRT's reason when no plan comes out.
        """
        trt, config = self._trt, self.config
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
        if hasattr(trt.BuilderFlag, "TF32"):
            config.clear_flag(trt.BuilderFlag.TF32)  # FP32 means FP32: parity is gated on it
        if timing_cache is not None:
            old = timing_cache.read_bytes() if timing_cache.is_file() else b""
            config.set_timing_cache(config.create_timing_cache(old), False)
        monitor = _make_monitor(trt)
        config.progress_monitor = monitor
        plan = self._builder.build_serialized_network(self.network, config)
        monitor.close()
        if plan is None:
            reason = _line(self._log.errors[-1]) if self._log.errors else "no reason given"
            raise EngineError(f"{self._name}: TensorRT builds no plan: {reason}")
        if timing_cache is not None:
            timing_cache.write_bytes(bytes(config.get_timing_cache().serialize()))
        return bytes(plan)

    def _info(self, tensor: Any) -> TensorInfo:
        kinds = {"FLOAT": "FP32", "HALF": "FP16"}
        kind = tensor.dtype.name
        shape = tuple("N" if axis == -1 else int(axis) for axis in tensor.shape)
        return TensorInfo(tensor.name, kinds.get(kind, kind), shape)


def _make_logger(trt: Any) -> Any:
    """TensorRT logger that keeps warnings and errors instead of printing them."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.warnings: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(message)
            elif severity == trt.ILogger.Severity.WARNING:
                self.warnings.append(message)

    return Log()


def _make_monitor(trt: Any) -> Any:
    """Progress monitor: one bar a phase on a terminal; Ctrl-C stops the build."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._bars: dict[str, Any] = {}
            self._stop = False

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            hidden = not sys.stderr.isatty()
            self._bars[phase] = tqdm(total=steps, desc=phase, leave=False, disable=hidden)

        def step_complete(self, phase: str, step: int) -> bool:
            try:
                self._bars[phase].update(step + 1 - self._bars[phase].n)
            except KeyboardInterrupt:
                self._stop = True
            return not self._stop

        def phase_finish(self, phase: str) -> None:
            bar = self._bars.pop(phase, None)
            if bar is not None:
                bar.close()

        def close(self) -> None:
            for phase in list(self._bars):
                self.phase_finish(phase)
            if self._stop:
                raise KeyboardInterrupt

    return Monitor()


def _line(text: str) -> str:
    return " ".join(text.split())
