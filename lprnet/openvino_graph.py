"""A reader's ONNX on OpenVINO's CPU plugin: one call, pixels in, classes and probabilities out."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lprnet.telemetry import forbid_openvino_telemetry

Answer = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]

PART: Final = 8
"""Images that one thread computes at a stretch when a batch is split, at least half of it. Fewer
cost more each (0.25 ms at 8, 0.29 at 4; INT8, AMX); more leave threads idle at the end."""

_FEWEST: Final = 4  # images for each thread; fewer, and a batch that is alone takes much longer


def read_graph(source: bytes | str) -> Any:
    """`openvino.Model` of an ONNX file's bytes or path. Raises what OpenVINO raises."""
    forbid_openvino_telemetry()
    import openvino  # here: not every machine that imports this package has it

    return openvino.Core().read_model(source)


def compile_graph(
    model: Any, threads: int, hint: str = "LATENCY", cache_dir: str = "", streams: int = 1
) -> Any:
    """`openvino.CompiledModel` on the CPU, in FP32 or INT8 only.

    Args:
        streams: requests that are computed at a time, each by its share of the threads.

    The others as `OpenVinoGraph`.
    """
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
            "NUM_STREAMS": streams,
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

    A batch of at least four images a thread is split into parts, each computed by one thread:
    threads that share an image wait for each other at every layer, and wait longer where something
    else uses a CPU. For 32 images on two threads of their own this takes 7.6 instead of 9.1 ms of
    CPU time. The answers are the same bit by bit.

    Args:
        model: of `read_graph`; one input of a free batch size.
        outputs: names of the outputs with class ids and with probabilities.
        threads: that compute at a time.
        split: False: all threads share each batch, whatever its size, as OpenVINO alone has it.
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
        split: bool = True,
        hint: str = "LATENCY",
        cache_dir: str = "",
    ) -> None:
        import openvino  # see `read_graph`

        self._tensor = openvino.Tensor
        compiled = compile_graph(model, threads, hint, cache_dir)
        self._many = compiled.create_infer_request()
        self._outputs = [compiled.output(name) for name in outputs]
        self._split: Any = None
        if split and threads > 1:
            self._split = compile_graph(model, threads, hint, cache_dir, streams=threads)
            self._split_outputs = [self._split.output(name) for name in outputs]
        self._threads = threads
        self._parts: list[Any] = []
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
        if self._split is not None and len(pixels) >= _FEWEST * self._threads:
            return self._in_parts(pixels)
        self._many.set_input_tensor(self._tensor(pixels, shared_memory=True))
        self._many.infer({}, share_outputs=True)
        # Copies: the next inference writes to the same memory.
        ids, probs = (self._many.get_tensor(port).data.copy() for port in self._outputs)
        return ids, probs

    def _in_parts(self, pixels: npt.NDArray[Any]) -> Answer:
        count = self._threads * max(1, len(pixels) // (PART * self._threads))
        while len(self._parts) < count:
            self._parts.append(self._split.create_infer_request())
        requests = self._parts[:count]
        edges = [len(pixels) * part // count for part in range(count + 1)]
        with ExitStack() as started:  # waits for all, should one of them fail
            for request, begin, end in zip(requests, edges[:-1], edges[1:], strict=True):
                request.set_input_tensor(self._tensor(pixels[begin:end], shared_memory=True))
                request.start_async()
                started.callback(request.wait)
        ids, probs = (
            np.concatenate([request.get_tensor(port).data for request in requests])
            for port in self._split_outputs
        )
        return ids, probs
