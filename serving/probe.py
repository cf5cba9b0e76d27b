"""A known plate, sent through both ensembles: only an answer proves that a server reads.

Triton calls a model ready whose process is dead, so readiness alone says nothing.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from lprnet import contract
from lprnet.image import load_crop
from lprnet.plate_spec import PlateSpec
from serving.errors import PreflightError, ProbeError, ProbeFailure

PICTURE: Final = Path(__file__).with_name("probe.png")


@dataclass(frozen=True)
class Probe:
    """A picture and its answer.

    Attributes:
        encoded: the picture file.
        crop: UINT8 [3, H, W] RGB, the same picture as `lprnet.image` crops it.
        plate: text that the served weights read in it.
        confidence: with which they do, 0..1.
        time_steps: T of these weights.
    """

    encoded: bytes
    crop: npt.NDArray[np.uint8]
    plate: str
    confidence: float
    time_steps: int


def load_probe(repository: Path) -> Probe:
    """The probe picture and the answer that `lprnet repository` recorded for these weights.

    Raises:
        PreflightError: when the record is missing, is none, or was made with another picture.
    """
    folder = repository / contract.ENGINE_MODEL / "1"
    if not folder.is_dir():
        raise PreflightError(f"there is no model repository at {repository}")
    encoded = PICTURE.read_bytes()
    try:
        record = json.loads((folder / contract.MODEL_RECORD_FILE).read_text(encoding="utf-8"))
        answer = record["probe"]
        if answer["picture_sha256"] != hashlib.sha256(encoded).hexdigest():
            raise KeyError("picture_sha256")
        plate, confidence = str(answer["plate"]), float(answer["confidence"])
    except (OSError, ValueError, KeyError, TypeError) as error:  # TypeError: other JSON
        raise PreflightError(
            f"{contract.MODEL_RECORD_FILE} has no answer to this release's probe picture: "
            "run `lprnet repository`"
        ) from error
    spec = PlateSpec.from_file(folder / contract.SPEC_FILE)
    crop = load_crop(encoded, spec.height_px, spec.width_px)
    return Probe(encoded, crop, plate, confidence, spec.time_steps)


def ask(client: grpcclient.InferenceServerClient, probe: Probe, timeout_s: float) -> float:
    """Send the probe through both ensembles; returns the time of both together, s.

    Raises:
        ProbeError: for no answer in time, an error, or a wrong answer.
    """
    begin = time.monotonic()
    crop = probe.crop[np.newaxis]
    encoded = np.array([[probe.encoded]], dtype=np.object_)
    for model, name, array in (
        (contract.CROP_ENSEMBLE, contract.IMAGE, crop),
        (contract.IMAGE_ENSEMBLE, contract.ENCODED, encoded),
    ):
        _check(model, _infer(client, model, name, array, timeout_s), probe)
    return time.monotonic() - begin


def _infer(
    client: grpcclient.InferenceServerClient,
    model: str,
    name: str,
    array: npt.NDArray[Any],
    timeout_s: float,
) -> grpcclient.InferResult:
    kind = "UINT8" if array.dtype == np.uint8 else "BYTES"
    tensor = grpcclient.InferInput(name, list(array.shape), kind)
    tensor.set_data_from_numpy(array)
    try:
        return client.infer(model, [tensor], client_timeout=timeout_s)
    except InferenceServerException as error:
        raise ProbeError(
            f"{model} does not read the probe plate: {error.message()}", _kind(error)
        ) from error


def _kind(error: InferenceServerException) -> ProbeFailure:
    if error.status() == "StatusCode.DEADLINE_EXCEEDED":
        return "timeout"
    # Triton's words where a queue is full, and where a request waited in it for too long.
    refused = ("maximum queue size", "Request timeout expired")
    return "overloaded" if any(words in str(error.message()) for words in refused) else "error"


def _check(model: str, result: grpcclient.InferResult, probe: Probe) -> None:
    plates, confidences = result.as_numpy(contract.PLATE), result.as_numpy(contract.CONFIDENCE)
    if plates is None or confidences is None or plates.size != 1 or confidences.size != 1:
        raise ProbeError(f"{model} answers the probe plate with empty outputs", "wrong")
    plate, confidence = plates.ravel()[0].decode(), float(confidences.ravel()[0])
    if plate != probe.plate:
        raise ProbeError(
            f"{model} reads {plate!r} on the probe plate, expected {probe.plate!r}", "wrong"
        )
    if not abs(confidence - probe.confidence) <= contract.PROBE_TOLERANCE:
        raise ProbeError(
            f"{model} reads the probe plate with confidence {confidence:.3f}, "
            f"expected {probe.confidence:.3f}",
            "wrong",
        )
