"""Triton Python backend: `encoded` picture files -> `image` crops (`lprnet.image`).

The message of a refused picture is `REASON: sentence`, with a reason of `lprnet.image`; where a
request holds several pictures, `picture INDEX: REASON: sentence` names the first bad one.
"""

from __future__ import annotations

import json
import os
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from lprnet import contract
from lprnet.errors import ImageError, LprnetError
from lprnet.image import ImageLimits, load_crop
from lprnet.plate_spec import PlateSpec

Outcome = npt.NDArray[np.uint8] | ImageError


class TritonPythonModel:
    """Decodes all pictures of an `execute` call side by side; OpenCV releases the GIL."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the crop's size from the plate spec, the limits from the parameters."""
        parameters = {
            key: value["string_value"]
            for key, value in json.loads(args["model_config"])["parameters"].items()
        }
        self._limits = ImageLimits(
            max_bytes=int(parameters["max_bytes"]),
            max_pixels=int(parameters["max_pixels"]),
            min_side_px=int(parameters["min_side_px"]),
            max_aspect=float(parameters["max_aspect"]),
        )
        folder = Path(args["model_repository"]) / args["model_version"]
        try:
            self._spec = PlateSpec.from_file(folder / contract.SPEC_FILE)
        except LprnetError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        cv2.setNumThreads(1)  # one picture is small; the pool spreads pictures over the CPUs
        self._pool = ThreadPoolExecutor(int(parameters["decode_threads"]), "decode")
        self._rejected: dict[str, Any] = {}
        try:
            self._family = pb_utils.MetricFamily(
                name="lprnet_rejected_pictures_total",
                description="Pictures that were refused, by reason",
                kind=pb_utils.MetricFamily.COUNTER,
            )
        except pb_utils.TritonModelException:  # tritonserver runs with --allow-metrics=false
            self._family = None

    def execute(self, requests: list[Any]) -> list[Any]:
        """Requests of `encoded` BYTES [n, 1] -> as many responses, in order.

        Whatever goes wrong, clients get one clear sentence and the server's log the traceback.
        """
        try:
            return self._execute(requests)
        except Exception:
            pb_utils.Logger.log_error(traceback.format_exc())
            message = f"{contract.IMAGE_DECODER_MODEL} failed; the reason is in the server's log"
            error = pb_utils.TritonError(message, pb_utils.TritonError.INTERNAL)
            return [pb_utils.InferenceResponse(error=error) for _ in requests]

    def _execute(self, requests: list[Any]) -> list[Any]:
        files = [
            pb_utils.get_input_tensor_by_name(request, contract.ENCODED).as_numpy().ravel()
            for request in requests
        ]
        flat = [data for request in files for data in request]
        # Handing one picture to the pool costs more than decoding it here.
        run = map if len(flat) == 1 else self._pool.map
        outcomes = list(run(self._decode, flat))
        self._count(outcomes)
        ends = np.cumsum([len(request) for request in files])
        return [
            _response(outcomes[end - len(request) : end])
            for request, end in zip(files, ends, strict=True)
        ]

    def finalize(self) -> None:
        """End the threads."""
        self._pool.shutdown()
        self._rejected.clear()  # metrics before their family
        self._family = None

    def _count(self, outcomes: list[Outcome]) -> None:
        """One message to the server a reason, not a picture: refusals come in floods."""
        if self._family is None:
            return
        reasons = Counter(bad.reason for bad in outcomes if isinstance(bad, ImageError))
        for reason, count in reasons.items():
            if reason not in self._rejected:
                # The process: see plate_metrics.py of the ctc_decoder.
                labels = {"reason": reason, "process": str(os.getpid())}
                self._rejected[reason] = self._family.Metric(labels=labels)
            self._rejected[reason].increment(count)

    def _decode(self, data: bytes) -> Outcome:
        try:
            return load_crop(data, self._spec.height_px, self._spec.width_px, self._limits)
        except ImageError as error:
            return error
        except Exception:  # one odd file must not fail its neighbours
            pb_utils.Logger.log_error(traceback.format_exc())
            return ImageError("corrupt", "the picture does not decode")


def _response(outcomes: list[Outcome]) -> Any:
    """One request's crops, or its first error."""
    crops = []
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, ImageError):
            where = f"picture {index}: " if len(outcomes) > 1 else ""
            message = f"{where}{outcome.reason}: {outcome}"
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG)
            )
        crops.append(outcome)
    return pb_utils.InferenceResponse([pb_utils.Tensor(contract.IMAGE, np.stack(crops))])
