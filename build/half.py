"""FP32 ONNX -> typed FP16 ONNX, for builders that take precision from the graph.

TensorRT 11 and TensorRT-RTX have no FP16 switch any more: what is half precision must be so in
the ONNX. Convolutions and the layers between them become FP16; scaling of pixels, softmax and
the choice of the best class stay FP32, because half precision cannot tell near classes apart and
saturates at 65,504.
"""

from __future__ import annotations

import onnx
import onnxslim

from lprnet.model_file import ModelError

KEEP_FP32 = ("Softmax", "ArgMax", "ReduceMax", "ReduceMean", "Div")


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose weights are FP16; inputs and outputs keep their types.

    Raises:
        ModelError: when it holds INT8 already, or nothing became FP16.
    """
    from onnxruntime.transformers import float16, onnx_model  # loaded only where it is used

    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise ModelError("the model is quantized already: build it with --precision int8")
    half: onnx.ModelProto = float16.convert_float_to_float16(
        onnx.ModelProto.FromString(model.SerializeToString()),
        keep_io_types=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *KEEP_FP32],
        node_block_list=_pixel_nodes(model),
    )
    weights = [t for t in half.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    if not weights:
        raise ModelError("no weight became FP16")
    onnx_model.OnnxModel(half).topological_sort()  # the converter appends its casts at the end
    _drop_round_trips(half)
    half = onnxslim.slim(half)
    onnx.checker.check_model(half, full_check=True)
    return half


def _drop_round_trips(model: onnx.ModelProto) -> None:
    """FP32 -> FP16 -> FP32 between two nodes that stay FP32 rounds for nothing: take it out."""
    makers = {output: node for node in model.graph.node for output in node.output}
    outputs = {value.name for value in model.graph.output}
    source: dict[str, str] = {}
    for node in model.graph.node:
        if _cast_type(node) != onnx.TensorProto.FLOAT or node.output[0] in outputs:
            continue
        narrow = makers.get(node.input[0])
        if narrow is not None and _cast_type(narrow) == onnx.TensorProto.FLOAT16:
            source[node.output[0]] = narrow.input[0]
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = source.get(name, name)


def _cast_type(node: onnx.NodeProto) -> int:
    """Element type that a Cast makes; 0 for any other node."""
    return node.attribute[0].i if node.op_type == "Cast" else 0


def _pixel_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes between the input and the first convolution."""
    names, tensors = [], {value.name for value in model.graph.input}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Pad") and tensors & set(node.input):
            names.append(node.name)
            if node.op_type in ("Cast", "Mul", "Sub", "ReduceSum"):
                tensors.update(node.output)
    return names
