"""`lprnet quantize`: the form of the INT8 file, its gate, and that it still reads."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto
from sample_readers import exported, pictures

from lprnet import contract
from lprnet.model_file import ModelError, verify_file
from lprnet.plate_spec import PlateSpec

import quantize  # isort: skip - sample_readers says where build/ is
from labelled import LabelledCrops, exact_match, load_set, read_plates  # isort: skip
from quantizers import QUANTIZERS, check_form  # isort: skip
import recipes  # isort: skip
from runtimes import load_runner  # isort: skip


def _self_labelled(count: int, seed: int) -> LabelledCrops:
    """Pictures labelled with what the FP32 model reads: its exact match is 100 %."""
    plain = pictures(count, seed)
    texts = read_plates(load_runner(exported(), "onnxruntime"), plain.crops)
    return LabelledCrops(plain.name, plain.crops, texts, plain.digests)


def test_int8_file_says_what_it_is() -> None:
    facts, source = verify_file(exported(precision="int8")), verify_file(exported())
    assert facts.precision == "int8"
    assert facts.spec == source.spec
    assert facts.temperature == source.temperature
    assert facts.metadata[contract.META_SOURCE] == source.weights_digest
    assert facts.inputs == source.inputs
    assert facts.outputs == source.outputs


@pytest.mark.parametrize("quantizer", ["nncf", "ort-minmax"])
def test_every_convolution_is_int8_in_the_form_that_tensorrt_takes(quantizer: str) -> None:
    source = exported()
    data, _ = quantize.quantize(source.read_bytes(), source.name, pictures(8), quantizer)
    model = onnx.load_from_string(data)
    convolutions = sum(node.op_type == "Conv" for node in model.graph.node)
    plain = onnx.load(source)
    assert len(recipes.attention_nodes(plain)) == 3  # two spread attention, one is the summary
    kept = len(recipes.float_nodes(plain, recipes.RECIPES[0])) if quantizer == "nncf" else 0
    assert check_form(model) == convolutions - kept
    zeros = {n.input[2] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    types = {t.data_type for t in model.graph.initializer if t.name in zeros}
    assert types == {TensorProto.INT8}


def test_unsigned_or_shifted_activations_are_not_the_form() -> None:
    for change in ("unsigned", "shifted"):
        model = onnx.load(exported(precision="int8"))
        node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
        zero = next(t for t in model.graph.initializer if t.name == node.input[2])
        value = np.zeros(1, np.uint8) if change == "unsigned" else np.ones(1, np.int8)
        zero.CopyFrom(onnx.numpy_helper.from_array(value.reshape(tuple(zero.dims)), zero.name))
        with pytest.raises(ModelError, match="INT8 with zero point 0"):
            check_form(model)
    with pytest.raises(ModelError, match="no convolution in INT8"):
        check_form(onnx.load(exported()))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_int8_names_the_same_class_where_fp32_is_sure(runtime: str) -> None:
    """Random weights leave most steps undecided; those above one half must survive rounding."""
    crops = pictures(48, seed=21).crops
    ids, probs = load_runner(exported(), runtime)(crops)
    int8_ids, _ = load_runner(exported(precision="int8"), runtime)(crops)
    sure = probs > 0.5
    assert sure.sum() > 100
    assert len(np.unique(ids[sure])) > 3
    assert (ids == int8_ids)[sure].mean() > 0.97


def test_answers_do_not_depend_on_the_batch() -> None:
    crops = pictures(64, seed=22).crops
    for runtime in ("onnxruntime", "openvino"):
        runner = load_runner(exported(precision="int8"), runtime)
        whole, _ = runner(crops)
        for batch in (1, 7, 32):
            parts = [runner(crops[i : i + batch])[0] for i in range(0, len(crops), batch)]
            assert np.array_equal(np.concatenate(parts), whole), (runtime, batch)


def test_gate_measures_both_and_fails_past_the_drop() -> None:
    labelled = _self_labelled(16, seed=23)
    wrong = LabelledCrops("half wrong", labelled.crops, ("X",) * 8 + labelled.texts[8:], ())
    reader = load_runner(exported(), "openvino")
    rows = quantize.check(reader, reader, [labelled, wrong])
    assert [row.before for row in rows] == [100, exact_match(labelled.texts, wrong.texts)]
    quantize.gate(rows, 0.0)  # the same reader twice loses nothing
    lost = quantize.CheckRow("val/eu", 1000, before=95.0, after=94.6, same=990)
    with pytest.raises(ModelError, match=r"loses 0\.40 points of exact match on val/eu"):
        quantize.gate([rows[0], lost], 0.3)
    quantize.gate([lost], 0.5)


def test_check_pictures_may_not_be_calibration_pictures() -> None:
    one, other = pictures(10, seed=1), pictures(10, seed=2)
    with pytest.raises(ModelError, match="shares 10 pictures with the calibration data"):
        quantize.split([one], [one], 100)
    parts = quantize.split([one], [other], 100)
    assert [len(parts.calibration), *map(len, parts.selection)] == [8, 2]
    assert parts.checks == [other]
    assert len(parts.training) == 8
    assert not set(parts.training.digests) & set(parts.selection[0].digests)


def test_nothing_to_judge_by_is_refused() -> None:
    """Seen to fail: an INT8 form was written that nobody had measured."""
    with pytest.raises(ModelError, match="--check"):
        quantize.split([pictures(4, seed=1), pictures(3, seed=2)], [], 8)


def test_without_check_sets_a_fifth_is_held_out() -> None:
    parts = quantize.split([pictures(10, seed=1), pictures(5, seed=2)], [], 8)
    assert [len(c) for c in parts.checks] == [2, 1]
    assert [len(c) for c in parts.selection] == [2, 1]
    assert len(parts.calibration) == 4 + 3
    assert len(parts.training) == 6 + 3
    digests = [d for c in (parts.calibration, *parts.selection, *parts.checks) for d in c.digests]
    assert len(digests) == len(set(digests)) == 13


def test_recipes_keep_the_named_convolutions_in_float() -> None:
    source = onnx.load(exported())
    convolutions = [node for node in source.graph.node if node.op_type == "Conv"]
    weights = {node.name: node.input[1] for node in convolutions}
    recipe = recipes.Recipe("ends", float_first=True, float_last=True)
    ends = recipes.float_nodes(source, recipe)
    assert ends[0] == convolutions[0].name
    attention = recipes.attention_nodes(source)
    assert ends[1:-2] == attention == recipes.float_nodes(source, recipes.Recipe("none"))
    assert [weights[name].split(".")[-2] for name in ends[-2:]] == ["score", "head"]
    data, facts = quantize.quantize(exported().read_bytes(), "m.onnx", pictures(8), "nncf", recipe)
    assert check_form(onnx.load_from_string(data)) == len(convolutions) - 3 - len(attention)
    assert facts.metadata[contract.META_QUANTIZER] == "nncf, ends"


def test_sums_are_not_rounded_before_they_are_added() -> None:
    model = onnx.load(exported(precision="int8"))
    makers = {output: node for node in model.graph.node for output in node.output}
    rounded = [
        makers[maker.input[0]].input[0]
        for node in model.graph.node
        if node.op_type == "Add"
        for name in node.input
        if (maker := makers.get(name)) is not None and maker.op_type == "DequantizeLinear"
    ]
    assert rounded  # the shortcuts: what the convolution beside them takes too
    assert "Conv" not in {makers[name].op_type for name in rounded}


def test_ranges_are_widened_by_the_recipe() -> None:
    source = exported()
    scales = []
    for widen in (1.0, 1.5):
        recipe = recipes.Recipe("wide", widen=widen)
        data, _ = quantize.quantize(source.read_bytes(), "m.onnx", pictures(4), "nncf", recipe)
        model = onnx.load_from_string(data)
        names = {n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear"}
        arrays = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        scales.append(np.array([float(arrays[name]) for name in sorted(names)]))
    assert np.allclose(scales[1] / scales[0], 1.5, rtol=1e-5)


def test_the_recipe_nearest_to_fp32_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights read no plates that could agree: the measure is given, all else is real."""
    one, two = recipes.Recipe("one"), recipes.Recipe("two", float_last=True)
    monkeypatch.setattr(quantize, "RECIPES", (one, two, one))
    measured = iter([0.1, 0.4, 0.1, 0.2, 0.2, 0.3])  # each recipe on each runtime
    monkeypatch.setattr(quantize, "disagreement", lambda *_: next(measured))
    data = exported().read_bytes()
    found = quantize.search(data, "m.onnx", pictures(4), [pictures(8, seed=24)])
    assert found[1].metadata[contract.META_QUANTIZER] == "nncf, two"
    assert found[0] == quantize.quantize(data, "m.onnx", pictures(4), "nncf", two)[0]


def test_disagreement_counts_texts_and_confidences() -> None:
    sure = np.array([0.9, 0.8], np.float32)
    assert recipes.disagreement((("A", "B"), sure), (("A", "B"), sure)) == 0
    other = recipes.disagreement((("A", "B"), sure), (("A", "C"), sure - np.float32(0.1)))
    assert other == pytest.approx((0.1 + 1) / 2)


def test_only_fp32_is_quantized() -> None:
    path = exported(precision="int8")
    with pytest.raises(ModelError, match="is int8 already"):
        quantize.quantize(path.read_bytes(), path.name, pictures(2))
    assert next(iter(QUANTIZERS)) == "nncf"


def _write_set(root: Path, count: int, labels_wrong: bool) -> Path:
    """TAO layout, pictures of the network's own size so that they come back as they were."""
    labelled = _self_labelled(count, seed=31)
    (root / "image").mkdir(parents=True)
    (root / "label").mkdir()
    for i, (crop, text) in enumerate(zip(labelled.crops, labelled.texts, strict=True)):
        cv2.imwrite(str(root / "image" / f"p{i}.png"), crop.transpose(1, 2, 0)[:, :, ::-1])
        (root / "label" / f"p{i}.txt").write_text("WRONG" if labels_wrong else text)
    return root


def test_sets_load_as_the_server_would(tmp_path: Path) -> None:
    labelled = _self_labelled(6, seed=31)
    loaded = load_set(_write_set(tmp_path / "set", 6, labels_wrong=False), labelled_spec())
    assert np.array_equal(loaded.crops, labelled.crops)
    assert loaded.texts == labelled.texts
    assert len(load_set(tmp_path / "set", labelled_spec(), limit=4)) == 4


def labelled_spec() -> PlateSpec:
    return verify_file(exported()).spec


def test_verb_writes_or_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _write_set(tmp_path / "set", 30, labels_wrong=False)
    parser = argparse.ArgumentParser()
    quantize.add_arguments(parser)
    out = tmp_path / "int8.onnx"
    arguments = [str(exported()), "--data", str(folder), "--out", str(out), "--max-drop"]
    assert quantize.run(parser.parse_args([*arguments, "100"])) == 0
    assert "same plates" in capsys.readouterr().out
    assert verify_file(out).precision == "int8"
    out.unlink()
    with pytest.raises(ModelError, match="INT8 loses"):
        quantize.run(parser.parse_args([*arguments, "-1"]))  # not even a gain of a point passes
    assert not out.exists()
