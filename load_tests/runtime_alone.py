"""OpenVINO by itself, as its own benchmarks run it: what the served engine is measured against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lprnet import contract
from lprnet.openvino_graph import Answer, compile_graph, read_graph

OUTPUTS = (contract.CHAR_IDS, contract.CHAR_PROBS)


class OpenVinoAlone:
    """An ONNX compiled once, for any batch size; one call a batch, all threads on it.

    Args:
        path: of the ONNX file.
        threads: of the runtime.
        hint: OpenVINO's performance hint.

    Raises:
        RuntimeError: of OpenVINO, when it cannot.
    """

    def __init__(self, path: Path, threads: int, hint: str) -> None:
        import openvino  # here: where ONNX Runtime is the engine, this need not be installed

        self._tensor = openvino.Tensor
        compiled = compile_graph(read_graph(str(path)), threads, hint)
        self._outputs = [compiled.output(name) for name in OUTPUTS]
        self._many: Any = compiled.create_infer_request()
        # Single pictures: tensors that are bound once, as binding costs 40 us a call.
        self._one: Any = compiled.create_infer_request()
        shape = [axis.get_length() for axis in list(compiled.input().partial_shape)[1:]]
        self._pixels = np.zeros([1, *shape], np.uint8)
        self._one.set_input_tensor(self._tensor(self._pixels, shared_memory=True))
        self._one.infer({}, share_outputs=True)
        self._answer = [self._one.get_tensor(port).data.copy() for port in self._outputs]
        for port, array in zip(self._outputs, self._answer, strict=True):
            self._one.set_tensor(port, self._tensor(array, shared_memory=True))

    def infer(self, images: npt.NDArray[np.uint8]) -> Answer:
        """UINT8 [N, 3, 48, 96], contiguous -> class ids INT32 and probabilities FP32 [N, T]."""
        if len(images) == 1:
            np.copyto(self._pixels, images)
            self._one.infer({}, share_outputs=True)
            ids, probs = (array.copy() for array in self._answer)
            return ids, probs
        # Not `infer([images])`, which takes 0.1 ms longer to fill and read dictionaries.
        self._many.set_input_tensor(self._tensor(images, shared_memory=True))
        self._many.infer({}, share_outputs=True)
        # Copies: the next inference writes to the same memory.
        ids, probs = (self._many.get_tensor(port).data.copy() for port in self._outputs)
        return ids, probs
