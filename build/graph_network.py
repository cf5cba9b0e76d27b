"""An INT8 ONNX as a PyTorch network that can be fine-tuned, and back into the same ONNX.

Every node computes what the runtimes compute, Q/DQ included, up to the logits. Rounding passes
gradients straight through (Bengio et al. 2013); scales of activations are learnt as in LSQ (Esser
et al. 2020), by their logarithm. A convolution between Q/DQ multiplies whole numbers of at most
8 bits, which bfloat16 holds exactly, so that fine-tuning is as fast as bfloat16 is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from lprnet.model_file import ModelError

LOWEST, HIGHEST = -128, 127
"""Range of INT8."""

Values = dict[str, Tensor]


class GraphNetwork(nn.Module):
    """UINT8 [N, 3, 48, 96] -> logits FP32 [N, classes, T] of an INT8 ONNX in our form.

    Args:
        model: as `quantizers.check_form` wants it.
        origin: the FP32 ONNX that it was made from; its weights, not yet rounded, are learnt.

    Raises:
        ModelError: for an operator that this module does not know.
    """

    def __init__(self, model: onnx.ModelProto, origin: onnx.ModelProto) -> None:
        super().__init__()
        self._model = model
        self._input = model.graph.input[0].name
        self._logits = logits_name(model)
        arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._constants = {name: torch.from_numpy(a.copy()) for name, a in arrays.items()}
        self._makers = {output: node for node in model.graph.node for output in node.output}
        self.weights, self.biases = nn.ParameterDict(), nn.ParameterDict()
        self.scales = nn.ParameterDict()
        unrounded = _convolution_weights(origin)
        for node in model.graph.node:
            if node.op_type == "Conv":
                self.weights[_key(node.output[0])] = _learnt(unrounded[node.output[0]])
                if len(node.input) > 2:
                    self.biases[_key(node.output[0])] = _learnt(arrays[node.input[2]])
            elif node.op_type == "QuantizeLinear":
                self.scales[_key(node.input[1])] = _learnt(np.log(arrays[node.input[1]]))
            elif node.op_type not in (*_OPERATORS, "DequantizeLinear", *_AFTER_LOGITS):
                raise ModelError(f"{node.name}: fine-tuning does not know {node.op_type}")

    def forward(self, image: Tensor, exact: bool = False) -> Tensor:
        """Logits.

        Args:
            exact: multiply in FP32 instead of bfloat16: slow, and nearest to the runtimes.
        """
        values: Values = {self._input: image}
        for node in self._model.graph.node:
            if self._logits in values:
                break
            if all(name in self._constants for name in node.input):
                continue  # weights: their convolution rounds them
            values[node.output[0]] = self._compute(node, values, exact)
        logits: Tensor = values[self._logits]
        return logits

    def _compute(self, node: onnx.NodeProto, values: Values, exact: bool) -> Tensor:
        if node.op_type == "QuantizeLinear":
            return _round(values[node.input[0]] / self.scales[_key(node.input[1])].exp())
        if node.op_type == "DequantizeLinear":
            return cast(Tensor, values[node.input[0]] * self.scales[_key(node.input[1])].exp())
        if node.op_type == "Conv":
            return self._convolve(node, values, exact)
        inputs = [values.get(name, self._constants.get(name)) for name in node.input]
        return _OPERATORS[node.op_type](inputs, _attributes(node))

    def _convolve(self, node: onnx.NodeProto, values: Values, exact: bool) -> Tensor:
        key, settings = _key(node.output[0]), _attributes(node)
        top, left, bottom, right = settings["pads"]
        if (top, left) != (bottom, right):
            raise ModelError(f"{node.name}: fine-tuning needs equal padding on both sides")
        weights = cast(Tensor, self.weights[key])
        bias = self.biases.get(key)
        geometry = {"stride": settings["strides"], "padding": (top, left)}
        maker = self._makers.get(node.input[1])
        if maker is None:
            return F.conv2d(values[node.input[0]], weights, bias, **geometry)
        source = self._makers[node.input[0]]  # of whole numbers
        scale = self._constants[maker.input[1]].reshape(-1, 1, 1, 1)
        numbers, rounded = values[source.input[0]], _round(weights / scale)
        if not exact:
            numbers, rounded = numbers.bfloat16(), rounded.bfloat16()
        product = F.conv2d(numbers, rounded, **geometry).float()
        step = self.scales[_key(source.input[1])].exp() * scale.reshape(1, -1, 1, 1)
        product = cast(Tensor, product * step)
        return product if bias is None else product + cast(Tensor, bias).reshape(1, -1, 1, 1)

    def to_onnx(self) -> onnx.ModelProto:
        """The INT8 ONNX with what has been learnt, in the form that it had."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        learnt: dict[str, Any] = {}
        with torch.no_grad():
            for node in model.graph.node:
                if node.op_type == "QuantizeLinear":
                    learnt[node.input[1]] = self.scales[_key(node.input[1])].exp()
                if node.op_type != "Conv":
                    continue
                key, maker = _key(node.output[0]), self._makers.get(node.input[1])
                if len(node.input) > 2:
                    learnt[node.input[2]] = self.biases[key]
                if maker is None:
                    learnt[node.input[1]] = self.weights[key]
                else:
                    scale = self._constants[maker.input[1]].reshape(-1, 1, 1, 1)
                    learnt[maker.input[0]] = _round(self.weights[key] / scale).to(torch.int8)
        for tensor in model.graph.initializer:
            if tensor.name in learnt:
                array = learnt[tensor.name].detach().numpy().copy()
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        return model


def logits_name(model: onnx.ModelProto) -> str:
    """Name of what the classes are taken from: [N, classes, T].

    Raises:
        ModelError: when the graph does not end in one ArgMax, as `lprnet export` writes it.
    """
    ends = [node for node in model.graph.node if node.op_type == "ArgMax"]
    if len(ends) != 1:
        raise ModelError("the graph does not end in one ArgMax: export it with `lprnet export`")
    return str(ends[0].input[0])


class _Round(torch.autograd.Function):
    """To whole numbers within INT8; gradients pass where nothing was cut off."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward((x >= LOWEST) & (x <= HIGHEST))
        return torch.clamp_(x.round(), LOWEST, HIGHEST)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        inside: Tensor = ctx.saved_tensors[0]
        return grads[0] * inside


def _round(x: Tensor) -> Tensor:
    return cast(Tensor, _Round.apply(x))  # type: ignore[no-untyped-call]


def _convolution_weights(model: onnx.ModelProto) -> dict[str, Any]:
    """Output of each convolution -> its weights. Quantizers keep the names of outputs."""
    arrays = {t.name: t for t in model.graph.initializer}
    return {
        node.output[0]: numpy_helper.to_array(arrays[node.input[1]])
        for node in model.graph.node
        if node.op_type == "Conv"
    }


def _learnt(array: Any) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(array, np.float32)))


def _key(name: str) -> str:
    return name.replace(".", "/")  # a parameter's name has no dot


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _axes(inputs: list[Any], index: int = 1) -> list[int]:
    return [int(axis) for axis in inputs[index].reshape(-1)]


def _unsqueeze(inputs: list[Any], _: dict[str, Any]) -> Tensor:
    x: Tensor = inputs[0]
    for axis in sorted(_axes(inputs)):
        x = x.unsqueeze(axis)
    return x


def _reshape(inputs: list[Any], _: dict[str, Any]) -> Tensor:
    x: Tensor = inputs[0]
    return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(_axes(inputs))])


def _slice(inputs: list[Any], _: dict[str, Any]) -> Tensor:
    x, starts, ends, axes = inputs[:4]
    (start,), (end,), (axis,) = starts.tolist(), ends.tolist(), axes.tolist()
    part: Tensor = x.narrow(axis, start, min(end, x.shape[axis]) - start)
    return part


def _gather(inputs: list[Any], attributes: dict[str, Any]) -> Tensor:
    x: Tensor = inputs[0]
    return x.select(attributes.get("axis", 0), int(inputs[1]))


def _reduced(name: str) -> Callable[[list[Any], dict[str, Any]], Tensor]:
    def reduce(inputs: list[Any], attributes: dict[str, Any]) -> Tensor:
        result: Tensor = getattr(inputs[0], name)(
            dim=_axes(inputs), keepdim=bool(attributes["keepdims"])
        )
        return result

    return reduce


_OPERATORS: dict[str, Callable[[list[Any], dict[str, Any]], Tensor]] = {
    "Add": lambda x, _: x[0] + x[1],
    "Cast": lambda x, _: x[0].float(),  # in front of the logits: pixels to FP32
    "Concat": lambda x, a: torch.cat(x, dim=a["axis"]),
    "Conv": lambda x, _: x[0],  # see `GraphNetwork._convolve`
    "Gather": _gather,
    "Mul": lambda x, _: x[0] * x[1],
    "ReduceMean": _reduced("mean"),
    "ReduceSum": _reduced("sum"),
    "Relu": lambda x, _: F.relu(x[0]),
    "Reshape": _reshape,
    "Slice": _slice,
    "Softmax": lambda x, a: x[0].softmax(dim=a["axis"]),
    "Sub": lambda x, _: x[0] - x[1],
    "Unsqueeze": _unsqueeze,
}
_AFTER_LOGITS = ("ArgMax", "Div", "ReduceMax")
