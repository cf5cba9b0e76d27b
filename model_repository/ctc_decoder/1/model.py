"""Triton Python backend: `char_ids`, `char_probs` -> text and confidences (`lprnet.ctc`)."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from plate_metrics import PlateMetrics

from lprnet import contract
from lprnet.ctc import DecodedBatch, decode
from lprnet.errors import LprnetError, SpecError
from lprnet.plate_spec import PlateSpec


def load_spec(model_folder: Path, version: str) -> PlateSpec:
    """Plate spec beside this model; refuse it when the engine in this repository has another.

    Raises:
        SpecError: see above. An engine that is not in this repository cannot be compared; what it
            sends is checked by `decode` in any case.
    """
    spec = PlateSpec.from_file(model_folder / version / contract.SPEC_FILE)
    engine_folder = model_folder.parent / contract.ENGINE_MODEL
    for engine_file in sorted(engine_folder.glob(f"*/{contract.SPEC_FILE}")):
        if PlateSpec.from_file(engine_file).digest != spec.digest:
            raise SpecError(
                f"the plate spec of {contract.DECODER_MODEL} is not that of "
                f"{contract.ENGINE_MODEL} version {engine_file.parent.name}: "
                "run `lprnet repository`"
            )
    return spec


class TritonPythonModel:
    """One vectorised decoding per `execute` call."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the plate spec."""
        try:
            self._spec = load_spec(Path(args["model_repository"]), args["model_version"])
        except LprnetError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        self._metrics: PlateMetrics | None = None
        try:
            self._metrics = PlateMetrics()
        except pb_utils.TritonModelException:  # tritonserver runs with --allow-metrics=false
            pb_utils.Logger.log_info("the server keeps no metrics: plates are not counted")

    def finalize(self) -> None:
        """Send the last counts."""
        if self._metrics is not None:
            self._metrics.close()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Requests of [n, T] ids and probabilities -> as many responses, in order.

        Whatever goes wrong, clients get one clear sentence and the server's log the traceback.
        """
        try:
            return self._execute(requests)
        except Exception:
            pb_utils.Logger.log_error(traceback.format_exc())
            message = f"{contract.DECODER_MODEL} failed; the reason is in the server's log"
            error = pb_utils.TritonError(message, pb_utils.TritonError.INTERNAL)
            return [pb_utils.InferenceResponse(error=error) for _ in requests]

    def _execute(self, requests: list[Any]) -> list[Any]:
        inputs = [
            tuple(
                pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                for name in (contract.CHAR_IDS, contract.CHAR_PROBS)
            )
            for request in requests
        ]
        ids, probs = (np.concatenate(parts) for parts in zip(*inputs, strict=True))
        try:
            decoded = decode(ids, probs, self._spec)
        except SpecError:
            return [self._alone(*pair) for pair in inputs]  # one of them is bad: find which
        self._count(decoded)
        ends = np.cumsum([len(pair[0]) for pair in inputs])
        return [
            _response(decoded, end - len(pair[0]), end)
            for pair, end in zip(inputs, ends, strict=True)
        ]

    def _alone(self, ids: np.ndarray[Any, Any], probs: np.ndarray[Any, Any]) -> Any:
        try:
            decoded = decode(ids, probs, self._spec)
            self._count(decoded)
            return _response(decoded, 0, len(ids))
        except SpecError as error:
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            )

    def _count(self, decoded: DecodedBatch) -> None:
        if self._metrics is not None:
            self._metrics.add(decoded.plates, decoded.confidence)


def _response(decoded: DecodedBatch, begin: int, end: int) -> Any:
    """Rows begin..end of a decoded batch as Triton's tensors."""
    plates = np.array([plate.encode() for plate in decoded.plates[begin:end]], dtype=np.object_)
    tensors = {
        contract.PLATE: plates[:, np.newaxis],
        contract.CONFIDENCE: decoded.confidence[begin:end, np.newaxis],
        contract.CHAR_CONFIDENCES: decoded.char_confidences[begin:end],
        contract.PLATE_IDS: decoded.plate_ids[begin:end],
    }
    return pb_utils.InferenceResponse([pb_utils.Tensor(n, array) for n, array in tensors.items()])
