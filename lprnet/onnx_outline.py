"""The outline of an ONNX file, read from its bytes without the onnx package.

An ONNX file is one protobuf message (onnx.proto, `ModelProto`). Assembling a repository and
serving need its inputs, outputs and metadata only, and must not drag a 20 MB package with them:
this module walks the wire format (protobuf.dev/programming-guides/encoding) and reads just that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# Field numbers of onnx.proto
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_METADATA = 7, 8, 14
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_NODE_OP_TYPE = 4
_TENSOR_NAME, _TENSOR_LOCATION = 8, 14
_EXTERNAL = 1

ELEMENT_TYPES = {1: "FP32", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "FP16"}
"""Names of the element types (TensorProto.DataType) that a reader's inputs and outputs may have."""


class WireError(ValueError):
    """Bytes that are no complete ONNX file; the message says whether they end too early."""


@dataclass(frozen=True)
class TensorInfo:
    """One input or output: name, element type ("UINT8") and shape, str for a dynamic axis."""

    name: str
    element_type: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        axes = ", ".join(map(str, self.shape))
        return f"{self.name} {self.element_type} [{axes}]"


@dataclass(frozen=True)
class OnnxOutline:
    """What an ONNX file says of itself.

    Attributes:
        inputs, outputs: tensors in graph order; weights are not inputs.
        metadata: the model's metadata_props.
        operators: operator types that its nodes use.
        opset: version of the default operator set; 0 when the file names none.
        external_data: whether weights lie in other files.
        graph: the serialised graph, weights included.
        rest: the other top-level fields (versions, operator sets) without metadata, in file order.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    metadata: dict[str, str]
    operators: frozenset[str]
    opset: int
    external_data: bool
    graph: bytes
    rest: bytes


def read_outline(data: bytes) -> OnnxOutline:
    """Read an ONNX file's outline.

    Raises:
        WireError: when the bytes are no ONNX file or end before it does.
    """
    graph: memoryview | None = None
    metadata: dict[str, str] = {}
    rest = []
    opset = 0
    view = memoryview(data)
    for number, value, raw in _fields(view):
        if number == _MODEL_METADATA:
            pair = {n: _text(v) for n, v, _ in _fields(_message(value))}
            metadata[pair.get(1, "")] = pair.get(2, "")
            continue
        if number == _MODEL_GRAPH:
            graph = _message(value)
            continue
        rest.append(bytes(raw))
        if number == _MODEL_OPSET:
            entry = {n: v for n, v, _ in _fields(_message(value))}
            version = entry.get(2, 0)
            if not entry.get(1) and isinstance(version, int):
                opset = version
    if graph is None:
        raise WireError("it holds no graph")
    inputs, outputs, initializers, operators = [], [], set(), set()
    external = False
    for number, value, _ in _fields(graph):
        if number == _GRAPH_INPUT:
            inputs.append(_tensor_info(_message(value)))
        elif number == _GRAPH_OUTPUT:
            outputs.append(_tensor_info(_message(value)))
        elif number == _GRAPH_NODE:
            for n, v, _ in _fields(_message(value)):
                if n == _NODE_OP_TYPE:
                    operators.add(_text(v))
        elif number == _GRAPH_INITIALIZER:
            for n, v, _ in _fields(_message(value)):
                if n == _TENSOR_NAME:
                    initializers.add(_text(v))
                external |= n == _TENSOR_LOCATION and v == _EXTERNAL
    return OnnxOutline(
        inputs=tuple(i for i in inputs if i.name not in initializers),
        outputs=tuple(outputs),
        metadata=metadata,
        operators=frozenset(operators),
        opset=opset,
        external_data=external,
        graph=bytes(graph),
        rest=b"".join(rest),
    )


def _tensor_info(value_info: memoryview) -> TensorInfo:
    name, element, shape = "", 0, list[int | str]()
    for number, value, _ in _fields(value_info):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for kind, tensor, _ in _fields(_message(value)):
                if kind != 1:  # a sequence, map or optional
                    continue
                for n, v, _ in _fields(_message(tensor)):
                    if n == 1 and isinstance(v, int):
                        element = v
                    elif n == 2:
                        shape = [_dimension(_message(d)) for _, d, _ in _fields(_message(v))]
    return TensorInfo(name, ELEMENT_TYPES.get(element, f"type {element}"), tuple(shape))


def _dimension(dimension: memoryview) -> int | str:
    for number, value, _ in _fields(dimension):
        if number == 1 and isinstance(value, int):
            return value
        if number == 2:
            return _text(value)
    return "?"


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview, memoryview]]:
    """(field number, value, the field's raw bytes) of one message."""
    at = 0
    while at < len(data):
        start = at
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        value: int | memoryview
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 2, 5):
            length = {1: 8, 5: 4}.get(kind, 0)
            if kind == 2:
                length, at = _varint(data, at)
            value = data[at : at + length]
            at += length
        else:
            raise WireError("it is no ONNX file")
        if number == 0:
            raise WireError("it is no ONNX file")
        if at > len(data):
            raise WireError("it is truncated: the file ends before the model does")
        yield number, value, data[start:at]


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise WireError("it is truncated: the file ends before the model does")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
    raise WireError("it is no ONNX file")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise WireError("it is no ONNX file")
    return value


def _text(value: int | memoryview) -> str:
    try:
        return bytes(_message(value)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise WireError("it is no ONNX file") from error
