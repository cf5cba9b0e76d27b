"""Post-training INT8 quantizers of kept libraries, brought to one form of ONNX.

The form: explicit QuantizeLinear/DequantizeLinear pairs; weights INT8, symmetric, per output
channel; activations INT8, symmetric, per tensor, zero point 0. It is the only form that TensorRT
accepts, and OpenVINO fuses it into integer convolutions. ONNX Runtime's CPU provider fuses only
some of it: a ReLU in front of a signed quantizer is not absorbed, as it is before an unsigned one.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from lprnet.model_file import ModelError

Feed = dict[str, npt.NDArray[Any]]
"""One picture as the graph's input: name -> [1, 3, 48, 96]."""

FLOAT_OPERATORS = ("Mul", "Sub", "Gemm", "ReduceSum", "ReduceMean", "Softmax")
"""Kept in float: the attention over height, the summary and the scaling of pixels. Rounding them
too changes more plates and gains no speed worth it."""

_SUMMANDS = ("Conv", "Gather", "Gemm", "ReduceSum", "Unsqueeze")
_TO_SUMS = ("Add", "Concat", "Gather", "Reshape", "Unsqueeze")

_U8_TO_S8 = 255 / 127


def quantize_nncf(
    model: onnx.ModelProto,
    feeds: list[Feed],
    keep_float: Sequence[str] = (),
    widen: float = 1.0,
) -> onnx.ModelProto:
    """NNCF: ranges of activations are the mean over pictures of their largest value.

    Its bias correction is off: it tripled the distance to the FP32 model's probabilities.

    Args:
        keep_float: names of nodes that are not quantized.
        widen: factor on the ranges: a mean cuts off the larger values of every other picture.
    """
    import nncf  # a heavy import; each quantizer is loaded only where it is used

    nncf.set_log_level(logging.ERROR)
    present = {node.op_type for node in model.graph.node}
    with contextlib.redirect_stdout(sys.stderr):  # its progress bars
        quantized = nncf.quantize(
            model,
            nncf.Dataset(feeds),
            preset=nncf.QuantizationPreset.PERFORMANCE,  # symmetric activations
            subset_size=len(feeds),
            ignored_scope=nncf.IgnoredScope(
                names=list(keep_float), types=[o for o in FLOAT_OPERATORS if o in present]
            ),
            advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
        )
    return _widened(_without_rounded_sums(_signed(quantized)), widen)


def _onnxruntime(method: str) -> Callable[[onnx.ModelProto, list[Feed]], onnx.ModelProto]:
    def quantize(model: onnx.ModelProto, feeds: list[Feed]) -> onnx.ModelProto:
        from onnxruntime import quantization as ort  # loaded only where it is used

        class Reader(ort.CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.feeds: Iterator[Feed] = iter(feeds)

            def get_next(self) -> Feed | None:
                return next(self.feeds, None)

        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "source.onnx", Path(folder) / "int8.onnx"
            onnx.save(model, source)
            logging.getLogger().setLevel(logging.ERROR)  # it asks for a pre-processing step
            ort.quantize_static(
                source,
                target,
                Reader(),
                quant_format=ort.QuantFormat.QDQ,
                calibrate_method=ort.CalibrationMethod[method],
                op_types_to_quantize=["Conv", "Add"],
                per_channel=True,
                activation_type=ort.QuantType.QInt8,
                weight_type=ort.QuantType.QInt8,
                extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
            )
            return onnx.load(target)

    quantize.__doc__ = f"ONNX Runtime's quantize_static with {method.lower()} calibration."
    return quantize


QUANTIZERS: dict[str, Callable[[onnx.ModelProto, list[Feed]], onnx.ModelProto]] = {
    "nncf": quantize_nncf,
    "ort-minmax": _onnxruntime("MinMax"),
    "ort-percentile": _onnxruntime("Percentile"),
    "ort-entropy": _onnxruntime("Entropy"),
}
"""The first is the default."""


def _signed(model: onnx.ModelProto) -> onnx.ModelProto:
    """UINT8 activations with zero point 0 -> INT8 with zero point 0 over the same range.

    Seven bits are left for what follows a ReLU, which hardly changes a plate (`lprnet quantize
    --compare` measures what is left). TensorRT reads UINT8 as INT8, clips it and only warns.
    """
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    signed: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero = initializers[node.input[1]], initializers[node.input[2]]
        if zero.data_type != onnx.TensorProto.UINT8 or zero.name in signed:
            continue
        points = numpy_helper.to_array(zero)
        if points.any() or scale.name in signed:
            raise ModelError(f"{node.name}: asymmetric or shared quantization, expected symmetric")
        wider = (numpy_helper.to_array(scale) * _U8_TO_S8).astype(np.float32)
        scale.CopyFrom(numpy_helper.from_array(wider, scale.name))
        zero.CopyFrom(numpy_helper.from_array(points.astype(np.int8), zero.name))
        signed.update((scale.name, zero.name))
    del model.graph.value_info[:]  # the types in it have changed
    return model


def _without_rounded_sums(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop Q/DQ between a layer and the addition behind it.

    Runtimes add within the convolution, in higher precision than 8 bits; TensorRT fuses only
    without them.
    """
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    dropped = []
    for node in graph.node:
        maker = makers.get(node.input[0]) if node.op_type == "QuantizeLinear" else None
        if maker is None or maker.op_type not in _SUMMANDS or len(users[node.output[0]]) != 1:
            continue
        (back,) = users[node.output[0]]
        behind = users[back.output[0]]
        if not all(user.op_type in _TO_SUMS for user in behind):
            continue
        for user in behind:
            user.input[:] = [node.input[0] if n == back.output[0] else n for n in user.input]
        dropped += [node, back]
    for node in dropped:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for tensor in [t for t in graph.initializer if t.name not in used]:
        graph.initializer.remove(tensor)
    return model


def _widened(model: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    """Scales of all activations times `factor`."""
    names = {node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    for tensor in model.graph.initializer:
        if tensor.name in names:
            scale = (numpy_helper.to_array(tensor) * factor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(scale, tensor.name))
    return model


def check_form(model: onnx.ModelProto) -> int:
    """Number of convolutions with INT8 weights.

    Raises:
        ModelError: when the graph is not of this module's form.
    """
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            zero = arrays.get(node.input[2]) if len(node.input) > 2 else None
            if zero is None or zero.dtype != np.int8 or zero.any():
                raise ModelError(f"{node.name}: activations must be INT8 with zero point 0")
    count = 0
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        weights = makers.get(node.input[1])
        if weights is None or weights.op_type != "DequantizeLinear":
            continue
        values, scale = arrays[weights.input[0]], arrays[weights.input[1]]
        if values.dtype != np.int8 or scale.size != values.shape[0]:
            raise ModelError(f"{node.name}: weights must be INT8 with a scale per output channel")
        count += 1
    if count == 0:
        raise ModelError("the quantizer left no convolution in INT8")
    return count
