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

    Single pictures have a graph of fixed shape of their own, which answers 0.06 of 0.34 ms sooner
    (INT8, one thread, AMX).

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

        single = model.clone()
        single.reshape([1, *list(model.input().partial_shape)[1:]])
        self._tensor = openvino.Tensor
        self._many, self._one = (
            _Request(compile_graph(graph, threads, hint, cache_dir), outputs)
            for graph in (model, single)
        )

    def __call__(self, images: npt.NDArray[Any]) -> Answer:
        """[N, 3, 48, 96] of the graph's type -> class ids INT32 and probabilities FP32 [N, T]."""
        asked = self._one if len(images) == 1 else self._many
        # Not `infer([images])`, which takes 0.1 ms longer to fill and read dictionaries.
        pixels = np.require(images, requirements=["C", "W"])  # what can be shared
        asked.request.set_input_tensor(self._tensor(pixels, shared_memory=True))
        asked.request.infer({}, share_outputs=True)
        # Copies: the next inference writes to the same memory.
        ids, probs = (asked.request.get_tensor(port).data.copy() for port in asked.outputs)
        return ids, probs


class _Request:
    def __init__(self, compiled: Any, outputs: tuple[str, str]) -> None:
        self.request = compiled.create_infer_request()
        self.outputs = [compiled.output(name) for name in outputs]
