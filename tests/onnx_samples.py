"""Tiny throw-away ONNX graphs with the product's inputs, outputs and metadata, for tests.

The class ids depend on the pixels and on nothing else: the crop is averaged over a grid of
`rows` x `time_steps / rows` cells and a cell's brightness is its class, so that a test can paint
the text that it wants to be read (`paint`).
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from lprnet import contract
from lprnet.plate_spec import DEFAULT_SPEC, PlateSpec

sys.path.append(str(Path(__file__).resolve().parent.parent / "build"))
from model_metadata import sign


def paint(text: str, spec: PlateSpec = DEFAULT_SPEC) -> npt.NDArray[np.uint8]:
    """Crop that `write_onnx`'s graph reads as `text`: UINT8 [3, H, W], one gray level a cell."""
    columns = spec.time_steps // spec.rows
    ids = np.full(spec.time_steps, spec.blank)
    position = 0
    previous = spec.blank
    for class_id in spec.encode(text):
        position += class_id == previous  # a blank between two equal characters
        ids[position] = class_id
        position, previous = position + 1, class_id
    gray = np.round((ids + 0.5) * 255 / spec.classes).astype(np.uint8)
    cells = gray.reshape(spec.rows, columns)
    rows = np.repeat(cells, spec.height_px // spec.rows, axis=0)
    plane = np.repeat(rows, spec.width_px // columns, axis=1)
    return np.repeat(plane[np.newaxis], 3, axis=0)


def build_onnx(
    spec: PlateSpec = DEFAULT_SPEC,
    *,
    input_type: int = TensorProto.UINT8,
    input_name: str = contract.IMAGE,
    id_type: int = TensorProto.INT32,
    time_steps: int | None = None,
) -> onnx.ModelProto:
    """Graph of `spec` without metadata; the keywords make it differ from the contract."""
    steps = spec.time_steps if time_steps is None else time_steps
    kernel = [spec.height_px // spec.rows, spec.width_px * spec.rows // steps]

    def constant(name: str, value: npt.ArrayLike) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(value), name)

    nodes = [
        helper.make_node("Cast", [input_name], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "channel"], ["gray"], keepdims=1),
        helper.make_node("AveragePool", ["gray"], ["cells"], kernel_shape=kernel, strides=kernel),
        helper.make_node("Reshape", ["cells", "flat"], ["steps"]),
        helper.make_node("Mul", ["steps", "scale"], ["level"]),
        helper.make_node("Floor", ["level"], ["floor"]),
        helper.make_node("Min", ["floor", "last"], ["class"]),
        helper.make_node("Cast", ["class"], [contract.CHAR_IDS], to=id_type),
        helper.make_node("Sub", ["level", "floor"], ["rest"]),
        helper.make_node("Mul", ["rest", "half"], ["small"]),
        helper.make_node("Sub", ["one", "small"], [contract.CHAR_PROBS]),
    ]
    graph = helper.make_graph(
        nodes,
        "sample",
        [helper.make_tensor_value_info(input_name, input_type, ["N", *spec.image_shape])],
        [
            helper.make_tensor_value_info(contract.CHAR_IDS, id_type, ["N", steps]),
            helper.make_tensor_value_info(contract.CHAR_PROBS, TensorProto.FLOAT, ["N", steps]),
        ],
        [
            constant("channel", np.array([1], np.int64)),
            constant("flat", np.array([-1, steps], np.int64)),
            constant("scale", np.float32(spec.classes / 255)),
            constant("last", np.float32(spec.classes - 1)),
            constant("half", np.float32(0.1)),
            constant("one", np.float32(1)),
        ],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, producer_name="sample"
    )


def write_onnx(path: Path, spec: PlateSpec = DEFAULT_SPEC) -> Path:
    """A complete, signed sample, and the record of a passed parity beside it."""
    path.write_bytes(sign(build_onnx(spec), spec, network="sample", precision="fp32"))
    write_record(path)
    return path


def write_record(path: Path, *, passed: bool = True) -> None:
    """What `lprnet parity` writes beside an ONNX, without figures."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    values = {
        "onnx_sha256": digest,
        "parity": {"passed": passed, "reference": "painted", "rows": []},
    }
    path.with_suffix(".json").write_text(json.dumps(values), encoding="utf-8")
