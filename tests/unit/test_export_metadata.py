"""Model files from outside: each wrong one is refused with one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sample_readers import exported

from lprnet import contract
from lprnet.charset import TAO_US_CHARSET, Charset
from lprnet.model_file import ModelError, require_spec, seal, verify, verify_file
from lprnet.onnx_outline import read_outline
from lprnet.plate_spec import PlateSpec

from model_metadata import sign  # isort: skip

Edit = Callable[[onnx.ModelProto], None]


def _set(model: onnx.ModelProto, key: str, value: str) -> None:
    for entry in model.metadata_props:
        if entry.key == key:
            entry.value = value


def _other_charset(model: onnx.ModelProto) -> None:
    """Spec and its digest replaced together, so that they agree with one another."""
    spec = PlateSpec(charset=Charset.from_text("ZYXWVUTSRQPONMLKJIHGFEDCBA9876543210"))
    _set(model, contract.META_SPEC, spec.to_json())
    _set(model, contract.META_SPEC_DIGEST, spec.digest)


def _charset_only(model: onnx.ModelProto) -> None:
    _set(model, contract.META_SPEC, PlateSpec(charset=TAO_US_CHARSET).to_json())


def _no_blank(model: onnx.ModelProto) -> None:
    text = PlateSpec().to_json().replace('"blank":36,', "")
    _resign(model, {contract.META_SPEC: text})


def _blank_outside(model: onnx.ModelProto) -> None:
    _resign(model, {contract.META_SPEC: PlateSpec().to_json().replace('"blank":36', '"blank":37')})


def _edited_weights(model: onnx.ModelProto) -> None:
    weights = model.graph.initializer[0]
    values = numpy_helper.to_array(weights).copy()
    values.flat[0] += 1e-3
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))


def _edited_temperature(model: onnx.ModelProto) -> None:
    _set(model, contract.META_TEMPERATURE, "9.0")


def _edited_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 17


def _no_metadata(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def _resign(model: onnx.ModelProto, values: dict[str, str]) -> None:
    """Sign again with other values, as somebody with this code could."""
    for key, value in values.items():
        _set(model, key, value)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    del metadata[contract.META_SEAL]
    rest = read_outline(model.SerializeToString(deterministic=True)).rest
    _set(model, contract.META_SEAL, seal(rest, metadata))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_no_metadata, "was not written by `lprnet export`"),
        (_other_charset, "metadata was changed after it was signed"),
        (_charset_only, "metadata was changed after it was signed"),
        (_edited_weights, "graph or weights were changed after it was signed"),
        (_edited_temperature, "metadata was changed after it was signed"),
        (_edited_opset, "metadata was changed after it was signed"),
        (_no_blank, "missing keys ['blank']"),
        (_blank_outside, "blank 37 is no class id"),
    ],
)
def test_edited_model_is_refused(edit: Edit, message: str) -> None:
    model = onnx.load(exported())
    edit(model)
    with pytest.raises(ModelError) as refusal:
        verify(model.SerializeToString(deterministic=True), "foreign.onnx")
    line = str(refusal.value)
    assert message in line
    assert line.startswith("foreign.onnx")
    assert "\n" not in line


def test_other_time_steps_are_refused() -> None:
    model = onnx.load(exported())
    data = sign(model, PlateSpec(time_steps=24, rows=1), network="small", precision="fp32")
    with pytest.raises(ModelError, match=r"does not fit its plate spec.*char_ids INT32 \[N, 24\]"):
        verify(data, "m.onnx")


def test_other_types_and_names_are_refused() -> None:
    for change, found in (("type", "char_ids INT64"), ("name", "ids INT32")):
        model = onnx.load(exported())
        ids = next(o for o in model.graph.output if o.name == contract.CHAR_IDS)
        if change == "type":
            ids.type.tensor_type.elem_type = TensorProto.INT64
        else:
            ids.name = "ids"
        data = sign(model, PlateSpec(), network="small", precision="fp32")
        with pytest.raises(ModelError, match="does not fit its plate spec") as refusal:
            verify(data, "m.onnx")
        assert found in str(refusal.value)


def test_every_truncation_is_refused() -> None:
    data = exported().read_bytes()
    rng = np.random.default_rng(0)
    for length in (0, 1, 2, len(data) - 1, *rng.integers(3, len(data), 40)):
        with pytest.raises(ModelError) as refusal:
            verify(data[:length], "cut.onnx")
        assert "\n" not in str(refusal.value)


def test_files_that_are_no_onnx_are_refused(tmp_path: Path) -> None:
    for content in (b"plain text, no model", b"\x89PNG\r\n\x1a\n" + bytes(99), bytes(64)):
        path = tmp_path / "other.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"other\.onnx"):
            verify_file(path)
    with pytest.raises(ModelError, match="cannot read the model"):
        verify_file(tmp_path / "missing.onnx")


def test_external_weights_are_refused() -> None:
    model = onnx.load(exported())
    weights = model.graph.initializer[0]
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    data = sign(model, PlateSpec(), network="small", precision="fp32")
    with pytest.raises(ModelError, match="keeps weights in other files"):
        verify(data, "m.onnx")


def test_a_model_of_another_spec_is_named() -> None:
    facts = verify_file(exported())
    require_spec(facts, PlateSpec(), "m.onnx")
    with pytest.raises(ModelError, match="characters, blank differ"):
        require_spec(facts, PlateSpec(charset=TAO_US_CHARSET), "m.onnx")


def test_outline_agrees_with_the_onnx_package() -> None:
    data = exported().read_bytes()
    outline, model = read_outline(data), onnx.load_from_string(data)
    assert outline.opset == model.opset_import[0].version
    assert outline.operators == {node.op_type for node in model.graph.node}
    assert outline.graph == model.graph.SerializeToString(deterministic=True)
    assert outline.metadata == {e.key: e.value for e in model.metadata_props}


def test_weights_given_as_inputs_are_no_inputs() -> None:
    """Files of IR version 3 list their weights among the inputs."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1])
    w = helper.make_tensor_value_info("w", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])
    weights = numpy_helper.from_array(np.ones(1, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])], "g", [x, w], [y], [weights]
    )
    outline = read_outline(helper.make_model(graph).SerializeToString())
    assert [tensor.name for tensor in outline.inputs] == ["x"]
