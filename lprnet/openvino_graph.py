"""A reader's ONNX on OpenVINO's CPU plugin: one call, pixels in, classes and probabilities out."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lprnet.telemetry import forbid_openvino_telemetry

Answer = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]

LARGEST: Final = 8
"""Images that one thread computes at a stretch. More save nothing (INT8, AMX: 0.24 ms an image at
8 and at 16), fewer cost more each (0.30 at 4, 0.55 at 1)."""

GENERATED_KERNELS: Final = "SNIPPETS_MODE"
"""OpenVINO's property. Graphs of free batch size never get such kernels, and they round elsewhere:
with them up to a quarter of the plates (INT8, AVX2) would get other probabilities than from a graph
of free batch size. Parts of all sizes agree with each other either way."""

_ALONE: Final = 4
"""Threads that share a lone picture at most. Two take 0.55 instead of 0.78 ms (INT8, AVX-512), and
each beyond the first spins for a millisecond afterwards (load_tests/NOTES.md): all of a large
machine's would burn its CPUs for single pictures. More than two were not at hand to measure."""

_LANES: Final = 8  # parts that are computed at a time at most; each keeps memory for every size


def read_graph(source: bytes | str) -> Any:
    """`openvino.Model` of an ONNX file's bytes or path. Raises what OpenVINO raises."""
    forbid_openvino_telemetry()
    import openvino  # here: not every machine that imports this package has it

    return openvino.Core().read_model(source)


def compile_graph(
    model: Any,
    threads: int,
    hint: str = "LATENCY",
    cache_dir: str = "",
    streams: int = 1,
    batch: int | None = None,
) -> Any:
    """`openvino.CompiledModel` on the CPU, in FP32 or INT8 only.

    Args:
        streams: requests that are computed at a time, each by its share of the threads.
        batch: the one batch size that the graph is for; None: any, at the cost of working out
            every layer's shapes in each call, and of 0.8 ms whenever the size changes.

    The others as `OpenVinoGraph`.
    """
    import openvino  # see `read_graph`

    core = openvino.Core()
    if cache_dir:
        core.set_property({"CACHE_DIR": cache_dir})
    settings = {
        "PERFORMANCE_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        # A pinned thread waits behind whoever else uses its CPU, its sibling with it.
        "ENABLE_CPU_PINNING": False,
        # Without it a CPU with AMX computes in bf16 and answers otherwise than others.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    if batch is None:
        return core.compile_model(model, "CPU", settings)
    fixed = model.clone()
    fixed.reshape({port: [batch, *list(port.partial_shape)[1:]] for port in fixed.inputs})
    try:
        return core.compile_model(fixed, "CPU", {**settings, GENERATED_KERNELS: "DISABLE"})
    except RuntimeError as error:
        if GENERATED_KERNELS not in str(error):
            raise
        return core.compile_model(fixed, "CPU", settings)  # a build that has no such property


class OpenVinoGraph:
    """A compiled reader. Not safe to use from several threads.

    A batch is computed in equal parts of 1 to `LARGEST` images, each by one thread: threads that
    share an image wait for each other at every layer, and a graph of free batch size pays for each
    call and dearly for each change of size. A picture that is alone gets up to four threads; with
    more than 8 threads several share a part. Whatever the batch, the answers are the same bit by
    bit, and those of OpenVINO's graph of free batch size where it knows `GENERATED_KERNELS`.

    Args:
        model: of `read_graph`; one input of a free batch size.
        outputs: names of the outputs with class ids and with probabilities.
        threads: that compute at a time.
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
        self._outputs = outputs
        self._lanes = min(threads, _LANES)
        self._graphs = {
            size: compile_graph(model, threads, hint, cache_dir, self._lanes, size)
            for size in range(1, LARGEST + 1)
        }
        self._made: dict[int, list[_Part]] = {size: [] for size in self._graphs}
        alone = self._graphs[1]
        if self._lanes > 1:
            alone = compile_graph(model, min(threads, _ALONE), hint, cache_dir, 1, 1)
        self._alone = _Part(alone, outputs)
        pixels = np.zeros([LARGEST * self._lanes, *self._alone.shape[1:]], self._alone.dtype)
        for size in self._graphs:  # a lane's first inference takes 6 ms more
            self._compute(pixels[: size * self._lanes], [size] * self._lanes)

    def __call__(self, images: npt.NDArray[Any]) -> Answer:
        """[N, 3, 48, 96] of the graph's type -> class ids INT32 and probabilities FP32 [N, T]."""
        if len(images) == 1:
            self._alone.infer(images)
            ids, probs = self._alone.answer(1)
            return ids.copy(), probs.copy()  # the next inference writes to the same memory
        return self._compute(images, self.shares(len(images)))

    def shares(self, count: int) -> list[int]:
        """Images of each part: as few parts as fill every lane equally often."""
        rounds = -(-count // (LARGEST * self._lanes))
        parts = min(count, rounds * self._lanes)
        share, more = divmod(count, parts)
        return [share + 1] * more + [share] * (parts - more)

    def _compute(self, images: npt.NDArray[Any], shares: list[int]) -> Answer:
        # One graph for all: those of several sizes have threads of their own and take turns.
        made = self._made[max(shares)]
        while len(made) < len(shares):
            made.append(_Part(self._graphs[max(shares)], self._outputs))
        parts = made[: len(shares)]
        begin = 0
        with ExitStack() as started:  # waits for all, should one of them fail
            for part, share in zip(parts, shares, strict=True):
                part.start(images[begin : begin + share])
                started.callback(part.wait)
                begin += share
        answers = [part.answer(share) for part, share in zip(parts, shares, strict=True)]
        ids, probs = (np.concatenate(column) for column in zip(*answers, strict=True))
        return ids, probs


class _Part:
    """One request; its tensors are bound once, as binding costs 40 us a call."""

    def __init__(self, compiled: Any, outputs: tuple[str, str]) -> None:
        import openvino  # see `read_graph`

        port = compiled.input()
        self.shape = list(port.shape)
        self.dtype = port.element_type.to_dtype()
        self._pixels = np.zeros(self.shape, self.dtype)
        self._request = compiled.create_infer_request()
        self._request.set_input_tensor(openvino.Tensor(self._pixels, shared_memory=True))
        self._answer = [
            np.empty(list(port.shape), port.element_type.to_dtype())
            for port in map(compiled.output, outputs)
        ]
        for name, array in zip(outputs, self._answer, strict=True):
            tensor = openvino.Tensor(array, shared_memory=True)
            self._request.set_tensor(compiled.output(name), tensor)

    def infer(self, images: npt.NDArray[Any]) -> None:
        self._fill(images)
        self._request.infer({}, share_outputs=True)

    def start(self, images: npt.NDArray[Any]) -> None:
        self._fill(images)
        self._request.start_async()

    def wait(self) -> None:
        self._request.wait()

    def answer(self, count: int) -> tuple[Any, Any]:
        ids, probs = self._answer
        return ids[:count], probs[:count]

    def _fill(self, images: npt.NDArray[Any]) -> None:
        # What is left of an earlier, fuller batch is computed along and not looked at.
        np.copyto(self._pixels[: len(images)], images, casting="no")
