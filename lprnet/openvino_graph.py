"""A reader's ONNX on OpenVINO's CPU plugin: one call, pixels in, classes and probabilities out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lprnet.telemetry import forbid_openvino_telemetry

Answer = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]


def read_graph(source: bytes | str) -> Any:
    """`openvino.Model` of an ONNX file's bytes or path. Raises what OpenVINO raises."""
    forbid_openvino_telemetry()
    import openvino  # here: not every machine that imports this package has it

    return openvino.Core().read_model(source)


def compile_graph(model: Any, threads: int, hint: str = "LATENCY", cache_dir: str = "") -> Any:
    """`openvino.CompiledModel` on the CPU, in FP32 or INT8 only. Arguments as `OpenVinoGraph`."""
    import openvino  # see `read_graph`

    core = openvino.Core()
    if cache_dir:
        core.set_property({"CACHE_DIR": cache_dir})
    return core.compile_model(
        model,
        "CPU",
        {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # A pinned thread waits behind whoever else uses its CPU, its sibling with it.
            "ENABLE_CPU_PINNING": False,
            # Without it a CPU with AMX computes in bf16 and answers otherwise than others.
            "INFERENCE_PRECISION_HINT": "f32",
        },
    )


class OpenVinoGraph:
    """A compiled reader. Not safe to use from several threads.

    One graph of a free batch size for all: a graph of fixed shape for single pictures would answer
    0.06 of 0.34 ms sooner (INT8, one thread, AMX), but with other probabilities on 1 % of plates
    (by up to 0.005), and answers must not depend on the batch.

    Args:
        model: of `read_graph`; one input of a free batch size.
        outputs: names of the outputs with class ids and with probabilities.
        threads: of one inference.
        hint: OpenVINO's performance hint, "LATENCY" or "THROUGHPUT".
        cache_dir: folder of OpenVINO's compiled-model cache; empty means none.

    Raises:
        RuntimeError: of OpenVINO, when it cannot.
    """

    def __init__(
        self,
        model: Any,
        outputs: tuple[str, str],
        threads: int,
        *,
        hint: str = "LATENCY",
        cache_dir: str = "",
    ) -> None:
        import openvino  # see `read_graph`

        self._tensor = openvino.Tensor
        compiled = compile_graph(model, threads, hint, cache_dir)
        self._many = compiled.create_infer_request()
        self._outputs = [compiled.output(name) for name in outputs]
        # Single pictures: tensors that are bound once, as binding costs 40 us a call.
        self._one = compiled.create_infer_request()
        _, channels, height, width = model.input().partial_shape
        shape = [1, *(axis.get_length() for axis in (channels, height, width))]
        self._pixels = np.zeros(shape, model.input().element_type.to_dtype())
        self._one.set_input_tensor(self._tensor(self._pixels, shared_memory=True))
        self._one.infer({}, share_outputs=True)
        self._answer = [self._one.get_tensor(port).data.copy() for port in self._outputs]
        for port, array in zip(self._outputs, self._answer, strict=True):
            self._one.set_tensor(port, self._tensor(array, shared_memory=True))

    def __call__(self, images: npt.NDArray[Any]) -> Answer:
        """[N, 3, 48, 96] of the graph's type -> class ids INT32 and probabilities FP32 [N, T]."""
        if images.shape == self._pixels.shape:
            np.copyto(self._pixels, images, casting="no")
            self._one.infer({}, share_outputs=True)
            ids, probs = (array.copy() for array in self._answer)
            return ids, probs
        # Not `infer([images])`, which takes 0.1 ms longer to fill and read dictionaries.
        pixels = np.require(images, requirements=["C", "W"])  # what can be shared
        self._many.set_input_tensor(self._tensor(pixels, shared_memory=True))
        self._many.infer({}, share_outputs=True)
        # Copies: the next inference writes to the same memory.
        ids, probs = (self._many.get_tensor(port).data.copy() for port in self._outputs)
        return ids, probs
