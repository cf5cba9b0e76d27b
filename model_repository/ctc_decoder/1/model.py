"""Triton Python backend: `char_ids`, `char_probs` -> text and confidences (`lprnet.ctc`)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# The package lprnet that was copied here, not another release that this Python may have.
sys.path.insert(0, str(Path(__file__).absolute().parent))

import numpy as np
from plate_metrics import PlateMetrics

from lprnet import contract
from lprnet.ctc import decode
from lprnet.errors import SpecError
from lprnet.plate_spec import PlateSpec
from lprnet.triton_model import PythonModel, refusal, response, spans, values


def load_spec(folder: Path, version: str) -> PlateSpec:
    """Plate spec beside this model; refuse it when the engine in this repository has another.

    Raises:
        SpecError: see above. An engine that is not in this repository cannot be compared; what it
            sends is checked by `decode` in any case.
    """
    spec = PlateSpec.from_file(folder / version / contract.SPEC_FILE)
    engine_folder = folder.parent / contract.ENGINE_MODEL
    for engine_file in sorted(engine_folder.glob(f"*/{contract.SPEC_FILE}")):
        if PlateSpec.from_file(engine_file).digest != spec.digest:
            raise SpecError(
                f"the plate spec of {contract.DECODER_MODEL} is not that of "
                f"{contract.ENGINE_MODEL} version {engine_file.parent.name}: "
                "run `lprnet repository`"
            )
    return spec


class TritonPythonModel(PythonModel):
    """One vectorised decoding per `execute` call."""

    name = contract.DECODER_MODEL

    def load(self, folder: Path, version: str, parameters: Mapping[str, str]) -> None:
        """Read the plate spec."""
        self._spec = load_spec(folder, version)
        self._metrics = PlateMetrics()

    def finalize(self) -> None:
        """Send the last counts."""
        self._metrics.close()

    def answer(self, requests: Sequence[Any]) -> list[Any]:
        """Requests of [n, T] ids and probabilities -> as many responses, in order."""
        ids, probs = values(requests, contract.CHAR_IDS), values(requests, contract.CHAR_PROBS)
        try:
            return self._decode(ids, probs)
        except SpecError:  # one of them is bad: find which
            return [self._alone(*pair) for pair in zip(ids, probs, strict=True)]

    def _alone(self, ids: Any, probs: Any) -> Any:
        try:
            return self._decode([ids], [probs])[0]
        except SpecError as error:
            return refusal(str(error))

    def _decode(self, ids: list[Any], probs: list[Any]) -> list[Any]:
        if len(ids) == 1:
            decoded = decode(ids[0], probs[0], self._spec)
        else:
            decoded = decode(np.concatenate(ids), np.concatenate(probs), self._spec)
        self._metrics.add(decoded.plates, decoded.confidence)
        outputs = {
            contract.PLATE: np.array([[text.encode()] for text in decoded.plates], np.object_),
            contract.CONFIDENCE: decoded.confidence.reshape(-1, 1),
            contract.CHAR_CONFIDENCES: decoded.char_confidences,
            contract.PLATE_IDS: decoded.plate_ids,
        }
        if len(ids) == 1:
            return [response(outputs)]
        return [
            response({name: rows[begin:end] for name, rows in outputs.items()})
            for begin, end in spans(ids)
        ]
