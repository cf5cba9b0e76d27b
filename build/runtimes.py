"""One call for every runtime that can run a reader: pixels in, classes and probabilities out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from lprnet.errors import LprnetError
from lprnet.model_file import ModelFacts, read_model_file, tensors, verify
from lprnet.openvino_graph import OpenVinoGraph, read_graph
from lprnet.plate_spec import PlateSpec

if TYPE_CHECKING:
    from torch import nn

UInt8Array = npt.NDArray[np.uint8]
Answer = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]
"""Class ids INT32 [N, T] and their probabilities FP32 [N, T]."""


class Runner(Protocol):
    """Something that reads crops.

    Attributes:
        label: runtime and precision, for tables.
        spec: how to decode its answers.
    """

    label: str
    spec: PlateSpec

    def __call__(self, crops: UInt8Array) -> Answer:
        """UINT8 [N, 3, 48, 96] RGB -> class ids and probabilities, both [N, T]."""
        ...


class TorchRunner:
    """The network itself, with the softmax that an export adds."""

    def __init__(self, network: nn.Module, spec: PlateSpec, temperature: float) -> None:
        self.label = "PyTorch fp32"
        self.spec = spec
        self._network = network.eval()
        self._temperature = temperature

    def __call__(self, crops: UInt8Array) -> Answer:
        """See `Runner`."""
        import torch  # engines are checked on machines without it

        with torch.inference_mode():
            logits = self._network(torch.from_numpy(crops).to(torch.float32) / 255)
            probs = torch.softmax(logits / self._temperature, dim=-1)
            return logits.argmax(dim=-1).to(torch.int32).numpy(), probs.amax(dim=-1).numpy()


class OnnxRuntimeRunner:
    """A signed ONNX on ONNX Runtime's CPU provider.

    Args:
        data: the file's bytes.
        name: for messages.
        threads: of one inference.

    Raises:
        ModelError: when the file is refused.
    """

    def __init__(self, data: bytes, name: str, threads: int = 1) -> None:
        import onnxruntime  # each runtime is loaded only where it is used

        self.facts = verify(data, name)
        self.spec = self.facts.spec
        self.label = f"ONNX Runtime {self.facts.precision}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        if self.facts.precision == "fp16":
            # At the highest level an FP16 LSTM crashes the CPU provider (1.30, 1.31).
            options.graph_optimization_level = (
                onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            )
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except RuntimeError as error:
            raise LprnetError(f"ONNX Runtime cannot run {name}: {error}") from error

    def __call__(self, crops: UInt8Array) -> Answer:
        """See `Runner`."""
        image, ids, probs = tensors(self.spec, self.facts.io)
        feed = {image.name: _as_input(crops, self.facts)}
        answer = self._session.run([ids.name, probs.name], feed)
        return answer[0], answer[1]


class OpenVinoRunner:
    """A signed ONNX on OpenVINO's CPU plugin. Arguments and errors as `OnnxRuntimeRunner`."""

    def __init__(self, data: bytes, name: str, threads: int = 1) -> None:
        self.facts = verify(data, name)
        self.spec = self.facts.spec
        self.label = f"OpenVINO {self.facts.precision}"
        _, ids, probs = tensors(self.spec, self.facts.io)
        try:
            self._graph = OpenVinoGraph(read_graph(data), (ids.name, probs.name), threads)
        except RuntimeError as error:
            raise LprnetError(f"OpenVINO cannot run {name}: {error}") from error

    def __call__(self, crops: UInt8Array) -> Answer:
        """See `Runner`."""
        return self._graph(_as_input(crops, self.facts))


def load_runner(path: Path, runtime: str, threads: int = 1) -> OnnxRuntimeRunner | OpenVinoRunner:
    """A signed ONNX file on "onnxruntime" or "openvino" (CPU). Raises LprnetError when refused."""
    data = read_model_file(path)
    if runtime == "openvino":
        return OpenVinoRunner(data, path.name, threads)
    return OnnxRuntimeRunner(data, path.name, threads)


def _as_input(crops: UInt8Array, facts: ModelFacts) -> npt.NDArray[Any]:
    if facts.io == "tao":
        scaled: npt.NDArray[np.float32] = crops.astype(np.float32) / np.float32(255)
        return scaled
    return crops


def trial_pictures(spec: PlateSpec, count: int, seed: int = 0) -> UInt8Array:
    """Pictures without meaning for comparing runtimes: UINT8 [count, 3, H, W].

    Smooth blobs with strong contrast and some noise, so that every layer gets a signal.
    """
    rng = np.random.default_rng(seed)
    _, height, width = spec.image_shape
    coarse = rng.integers(0, 256, (count, 3, height // 8, width // 8)).astype(np.float32)
    blobs = coarse.repeat(8, axis=2).repeat(8, axis=3)
    noise = rng.normal(0, 12, blobs.shape)
    pictures: UInt8Array = np.clip(blobs + noise, 0, 255).astype(np.uint8)
    return pictures


def disagreement(reference: Runner, other: Runner, crops: UInt8Array) -> float:
    """Largest difference of a probability; 1.0 where a class differs without being a near tie.

    Two classes within rounding of each other may swap places: a difference of class counts only
    where the reference's best class stands out, i.e. its probability is above one half.
    """
    ids, probs = reference(crops)
    other_ids, other_probs = other(crops)
    clear = (ids != other_ids) & (probs > 0.5)
    if clear.any():
        return 1.0
    return float(np.abs(probs - other_probs).max(initial=0.0))
