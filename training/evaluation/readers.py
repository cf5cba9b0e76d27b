"""Everything that can be measured, behind one interface: pictures in, plates out.

Heavy packages (torch, ONNX Runtime, OpenVINO, the gRPC client) are imported only by the reader
that needs them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from lprnet import contract
from lprnet.ctc import decode
from lprnet.errors import LprnetError, SpecError
from lprnet.image import UInt8Array, to_crop
from lprnet.plate_spec import PlateSpec
from training.evaluation.pictures import Picture

SHIPPED_ONNX = (
    Path(__file__).parents[2] / "model_repository" / contract.ENGINE_MODEL / "1/model.onnx"
)
RUNTIMES = ("onnxruntime", "openvino")


class ReaderError(LprnetError):
    """A reader that cannot be opened: missing package, missing or foreign model file."""


@dataclass(frozen=True)
class Answers:
    """What a reader says about N pictures.

    Attributes:
        plates: N texts, upper case without separators; "" where nothing was read.
        confidences: [N] FP32, 0..1; 0 for an empty plate.
    """

    plates: tuple[str, ...]
    confidences: npt.NDArray[np.float32]


class Reader(Protocol):
    """Pictures in, plates out. Used as a context manager, which frees what it holds."""

    name: str
    """Short and unique within a report."""
    description: str
    """What it is and where it runs, in a few words."""

    def read(self, pictures: Sequence[Picture]) -> Answers:
        """Read a batch of any size, preprocessing included."""

    def __enter__(self) -> Reader: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class LocalReader:
    """Base of readers that run in this process and hold nothing that must be closed."""

    name: str
    description: str

    def __enter__(self) -> LocalReader:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def read(self, pictures: Sequence[Picture]) -> Answers:
        """Read a batch of any size, preprocessing included."""
        raise NotImplementedError


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package. Raises ReaderError that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ReaderError(
            f"the package {error.name!r} is not installed: run pip install '.[{extra}]'"
        ) from error


def stack_crops(pictures: Sequence[Picture], spec: PlateSpec) -> UInt8Array:
    """Pictures -> UINT8 [N, 3, height, width] RGB by the one preprocessing that we have."""
    crops = [to_crop(p.pixels, spec.height_px, spec.width_px) for p in pictures]
    return np.stack(crops) if crops else np.zeros((0, *spec.image_shape), np.uint8)


class CheckpointReader(LocalReader):
    """A training checkpoint through PyTorch, on the CPU."""

    def __init__(self, path: Path, threads: int = 1, name: str | None = None) -> None:
        self._torch = require("torch", "train")
        checkpoint = require("training.checkpoint", "train").load_checkpoint(path)
        self._torch.set_num_threads(threads)
        self.checkpoint = checkpoint
        self.spec: PlateSpec = checkpoint.spec
        self.temperature: float = checkpoint.temperature
        self.name = path.stem if name is None else name
        self.description = f"{checkpoint.network_name}, PyTorch FP32, {threads} thread(s)"

    def logits(self, pictures: Sequence[Picture]) -> npt.NDArray[np.float32]:
        """FP32 [N, T, classes], before the temperature."""
        with self._torch.inference_mode():
            crops = self._torch.from_numpy(stack_crops(pictures, self.spec))
            made: npt.NDArray[np.float32] = self.checkpoint.network(crops.float() / 255).numpy()
        return made

    def read(self, pictures: Sequence[Picture]) -> Answers:
        """Read a batch."""
        ids, probs = best_path(self.logits(pictures), self.temperature)
        return _decoded(ids, probs, self.spec)


def best_path(
    logits: npt.NDArray[np.float32], temperature: float
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Logits [N, T, classes] -> best class INT32 [N, T] and its probability FP32 [N, T]."""
    scaled = logits / np.float32(temperature)
    top = scaled.max(axis=-1)
    probs = 1 / np.exp(scaled - top[..., np.newaxis]).sum(axis=-1)
    return logits.argmax(axis=-1).astype(np.int32), probs.astype(np.float32)


def _decoded(ids: npt.NDArray[Any], probs: npt.NDArray[Any], spec: PlateSpec) -> Answers:
    batch = decode(ids, probs, spec)
    return Answers(batch.plates, batch.confidence)


class OnnxReader(LocalReader):
    """An exported ONNX (either --io) through ONNX Runtime or OpenVINO, on the CPU."""

    def __init__(
        self,
        path: Path,
        runtime: str = "onnxruntime",
        threads: int = 1,
        name: str | None = None,
    ) -> None:
        if not path.is_file():
            raise ReaderError(f"no ONNX at {path}: run `lprnet export`, or name one with --onnx")
        ort = require("onnxruntime", "train")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common base of their own
            first = str(error).splitlines()[0]
            raise ReaderError(f"ONNX Runtime cannot load {path}: {first}") from error
        metadata = session.get_modelmeta().custom_metadata_map
        if contract.META_SPEC not in metadata:
            raise ReaderError(f"{path} names no plate spec: it was not written by `lprnet export`")
        try:
            self.spec = PlateSpec.from_json(metadata[contract.META_SPEC])
        except SpecError as error:
            raise ReaderError(f"{path}: {error}") from error
        names = {tensor.name for tensor in session.get_outputs()}
        self._tao = contract.TAO_CHAR_IDS in names
        ids, probs = (
            (contract.TAO_CHAR_IDS, contract.TAO_CHAR_PROBS)
            if self._tao
            else (contract.CHAR_IDS, contract.CHAR_PROBS)
        )
        if not {ids, probs} <= names:
            raise ReaderError(f"{path} writes {sorted(names)}, not {ids} and {probs}")
        self._outputs = [ids, probs]
        self._input = contract.TAO_IMAGE if self._tao else contract.IMAGE
        self._session: Any = session if runtime == "onnxruntime" else _compile(path, threads)
        self._openvino = runtime == "openvino"
        network = metadata.get(contract.META_NETWORK, "network")
        precision = metadata.get(contract.META_PRECISION, "fp32").upper()
        label = "OpenVINO" if self._openvino else "ONNX Runtime"
        self.name = path.stem if name is None else name
        self.description = f"{network}, {label} {precision}, {threads} thread(s)"

    def read(self, pictures: Sequence[Picture]) -> Answers:
        """Read a batch."""
        crops: npt.NDArray[Any] = stack_crops(pictures, self.spec)
        if self._tao:
            crops = crops.astype(np.float32) / np.float32(255)
        if self._openvino:
            made = self._session({self._input: crops})
            ids, probs = made[self._outputs[0]], made[self._outputs[1]]
        else:
            ids, probs = self._session.run(self._outputs, {self._input: crops})
        return _decoded(ids, probs, self.spec)


def _compile(path: Path, threads: int) -> Any:
    core = require("openvino", "serve").Core()
    # Without the hint OpenVINO may compute in bf16 on newer processors and change answers.
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    return core.compile_model(str(path), "CPU", settings)


TLS_FILES: Final = ("ca_file", "cert_file", "key_file", "server_name")
"""Attributes of `clients.Tls`."""


class ServerReader:
    """A running server: encoded pictures through the image ensemble, as users send them.

    Args:
        url: HOST:PORT of its gRPC.
        name: in reports; None: the address.
        tls: `TLS_FILES` and their values, for an encrypted connection; None: a plain one.
    """

    def __init__(
        self, url: str, name: str | None = None, tls: Mapping[str, Any] | None = None
    ) -> None:
        clients = require("clients", "clients")
        options = clients.ClientOptions(tls=None if tls is None else clients.Tls(**tls))
        self._client = clients.PlateClient(url, options)
        self._invalid = require("clients.errors", "clients").InvalidPicture
        self.name = url if name is None else name
        self.description = f"server at {url}, {contract.IMAGE_ENSEMBLE}, round trip included"

    def read(self, pictures: Sequence[Picture]) -> Answers:
        """Read a batch. A picture that the server refuses is an empty plate."""
        outcomes = self._client.read_images([p.file for p in pictures])
        bad = [isinstance(outcome, self._invalid) for outcome in outcomes]
        return Answers(
            tuple("" if b else o.plate for b, o in zip(bad, outcomes, strict=True)),
            np.array(
                [0.0 if b else o.confidence for b, o in zip(bad, outcomes, strict=True)],
                dtype=np.float32,
            ),
        )

    def __enter__(self) -> ServerReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
