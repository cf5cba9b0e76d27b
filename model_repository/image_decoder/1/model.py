"""Triton Python backend: `encoded` picture files -> `image` crops (`lprnet.image`).

The message of a refused picture is `REASON: sentence`, with a reason of `lprnet.image`; where a
request holds several pictures, `picture INDEX: REASON: sentence` names the first bad one.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# The package lprnet that was copied here, not another release that this Python may have.
sys.path.insert(0, str(Path(__file__).absolute().parent))

import cv2
import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from lprnet import contract
from lprnet.cpus import usable_cpus
from lprnet.errors import ImageError
from lprnet.image import ImageLimits, load_crop
from lprnet.plate_spec import PlateSpec
from lprnet.triton_model import Count, Counters, PythonModel, refusal, response, spans, values

REJECTED = "lprnet_rejected_pictures_total"

Outcome = npt.NDArray[np.uint8] | ImageError


class TritonPythonModel(PythonModel):
    """Decodes all pictures of an `execute` call side by side; OpenCV releases the GIL."""

    name = contract.IMAGE_DECODER_MODEL

    def load(self, folder: Path, version: str, parameters: Mapping[str, str]) -> None:
        """Read the crop's size from the plate spec, the limits from the parameters."""
        self._limits = ImageLimits(
            max_bytes=int(parameters["max_bytes"]),
            max_pixels=int(parameters["max_pixels"]),
            min_side_px=int(parameters["min_side_px"]),
            max_aspect=float(parameters["max_aspect"]),
        )
        self._spec = PlateSpec.from_file(folder / version / contract.SPEC_FILE)
        cv2.setNumThreads(1)  # one picture is small; the threads spread pictures over the CPUs
        # More threads than CPUs only wait for one another.
        self._threads = min(int(parameters["decode_threads"]), usable_cpus())
        self._pool = ThreadPoolExecutor(self._threads, "decode")
        self._reasons: deque[str] = deque()
        self._counters = Counters(
            {REJECTED: "Pictures that were refused, by reason"}, self._collect
        )

    def finalize(self) -> None:
        """End the threads."""
        self._pool.shutdown()
        self._counters.close()

    def answer(self, requests: Sequence[Any]) -> list[Any]:
        """Requests of `encoded` BYTES [n, 1] -> as many responses, in order."""
        files = [column.ravel() for column in values(requests, contract.ENCODED)]
        flat = [data for request in files for data in request]
        outcomes: list[Any] = [None] * len(flat)
        todo = iter(range(len(flat)))  # each thread takes the next one: their sizes differ

        def work() -> None:
            for index in todo:
                outcomes[index] = self._decode(flat[index])
                self.moved_on()  # a batch of the largest pictures takes half a minute

        # This thread takes part: handing one picture to another costs more than decoding it.
        helpers = [self._pool.submit(work) for _ in range(min(self._threads, len(flat)) - 1)]
        work()
        for helper in helpers:
            helper.result()
        return [self._response(outcomes[begin:end]) for begin, end in spans(files)]

    def _decode(self, data: bytes) -> Outcome:
        try:
            return load_crop(data, self._spec.height_px, self._spec.width_px, self._limits)
        except ImageError as error:
            refused = error
        except Exception:  # one odd file must not fail its neighbours
            pb_utils.Logger.log_error(traceback.format_exc())
            refused = ImageError("corrupt", "the picture does not decode")
        if self._counters.kept:
            self._reasons.append(refused.reason)
        return refused

    def _collect(self) -> Iterator[Count]:
        reasons = Counter(self._reasons.popleft() for _ in range(len(self._reasons)))
        for reason, count in reasons.items():
            yield REJECTED, ("reason", reason), count

    @staticmethod
    def _response(outcomes: list[Outcome]) -> Any:
        """One request's crops, or its first error."""
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, ImageError):
                where = f"picture {index}: " if len(outcomes) > 1 else ""
                return refusal(f"{where}{outcome.reason}: {outcome}")
        crops = outcomes[0][np.newaxis] if len(outcomes) == 1 else np.stack(outcomes)
        return response({contract.IMAGE: crops})
