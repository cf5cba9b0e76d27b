"""`lprnet export`: contract, parity with PyTorch, independence of the batch, TAO's form."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from sample_readers import exported, random_reader
from torch import Tensor

from lprnet import contract
from lprnet.charset import TAO_US_CHARSET
from lprnet.ctc import decode
from lprnet.errors import LprnetError
from lprnet.model_file import ModelFacts, verify_file
from lprnet.plate_spec import PlateSpec
from training.network import build_network

import export_onnx  # isort: skip - sample_readers says where build/ is
from runtimes import TorchRunner, disagreement, load_runner, trial_pictures  # isort: skip


@pytest.fixture(scope="module")
def small() -> tuple[Path, ModelFacts]:
    """An exported `small` with random weights."""
    return exported(), verify_file(exported())


@pytest.fixture(scope="module")
def small_tao() -> Path:
    return exported(io="tao")


def test_tensors_are_the_contract(small: tuple[Path, ModelFacts]) -> None:
    model = onnx.load(small[0])
    found = {
        value.name: (
            value.type.tensor_type.elem_type,
            [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
        )
        for value in (*model.graph.input, *model.graph.output)
    }
    assert found == {
        contract.IMAGE: (onnx.TensorProto.UINT8, ["N", 3, 48, 96]),
        contract.CHAR_IDS: (onnx.TensorProto.INT32, ["N", 48]),
        contract.CHAR_PROBS: (onnx.TensorProto.FLOAT, ["N", 48]),
    }


def test_metadata_and_record(small: tuple[Path, ModelFacts]) -> None:
    path, facts = small
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert PlateSpec.from_json(metadata[contract.META_SPEC]) == facts.spec
    assert metadata[contract.META_NETWORK] == "small"
    assert metadata[contract.META_PRECISION] == "fp32"
    assert facts.temperature == pytest.approx(1.3)
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["onnx_sha256"] == facts.file_digest == verify_file(path).file_digest


def test_graph_is_simplified_and_names_no_source_file(small: tuple[Path, ModelFacts]) -> None:
    model = onnx.load(small[0])
    operators = {node.op_type for node in model.graph.node}
    assert "BatchNormalization" not in operators
    assert not operators & {"Shape", "Gather", "Identity", "Constant", "If", "Dropout"}
    del model.graph.initializer[:]
    assert not re.search(rb"[a-z]/[a-z]|\.py", model.SerializeToString())


def test_two_exports_are_the_same_file(tmp_path: Path) -> None:
    network, spec = random_reader("small")
    files = [tmp_path / "first.onnx", tmp_path / "again.onnx"]
    for path in files:
        export_onnx.export(network, spec, path, network_name="small", temperature=1.3)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_runtimes_answer_like_pytorch(small: tuple[Path, ModelFacts], runtime: str) -> None:
    network, spec = random_reader("small")
    reference = TorchRunner(network, spec, temperature=1.3)
    crops = trial_pictures(spec, 16, seed=3)
    runner = load_runner(small[0], runtime)
    assert disagreement(reference, runner, crops) < 1e-4
    assert decode(*runner(crops), spec).plates == decode(*reference(crops), spec).plates
    assert len(set(decode(*runner(crops), spec).plates)) > 8  # the comparison can tell them apart


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_answers_do_not_depend_on_the_batch(small: tuple[Path, ModelFacts], runtime: str) -> None:
    runner = load_runner(small[0], runtime)
    crops = trial_pictures(runner.spec, 64, seed=4)
    whole, whole_probs = runner(crops)
    for batch in (1, 7, 32):
        parts = [runner(crops[i : i + batch]) for i in range(0, len(crops), batch)]
        assert np.array_equal(np.concatenate([ids for ids, _ in parts]), whole), batch
        probs = np.concatenate([probs for _, probs in parts])
        np.testing.assert_allclose(probs, whole_probs, atol=1e-5)


@pytest.mark.parametrize("name", ["baseline10"])
def test_the_reference_network_exports(name: str, tmp_path: Path) -> None:
    network, spec = random_reader(name)
    path = tmp_path / "baseline.onnx"
    facts = export_onnx.export(network, spec, path, network_name=name, io="tao")
    assert [o.shape for o in facts.outputs] == [("N", 24), ("N", 24)]
    crops = trial_pictures(spec, 5)
    reference = TorchRunner(network, spec, temperature=1.0)
    assert disagreement(reference, load_runner(path, "openvino"), crops) < 1e-4


def test_temperature_changes_probabilities_and_no_class(
    small: tuple[Path, ModelFacts], tmp_path: Path
) -> None:
    network, spec = random_reader("small")
    sharp = tmp_path / "sharp.onnx"
    export_onnx.export(network, spec, sharp, network_name="small", temperature=0.5)
    crops = trial_pictures(spec, 8)
    ids, probs = load_runner(small[0], "onnxruntime")(crops)
    sharp_ids, sharp_probs = load_runner(sharp, "onnxruntime")(crops)
    assert np.array_equal(ids, sharp_ids)
    assert (sharp_probs > probs).mean() > 0.99


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_temperature_is_refused(temperature: float, tmp_path: Path) -> None:
    network, spec = random_reader("small")
    with pytest.raises(LprnetError, match="temperature must be above 0"):
        export_onnx.export(
            network, spec, tmp_path / "m.onnx", network_name="small", temperature=temperature
        )
    assert not list(tmp_path.iterdir())


def test_a_graph_that_answers_otherwise_is_not_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network, spec = random_reader("small")

    class HalfScale(export_onnx.Reader):
        def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
            return super().forward(image // 2)

    monkeypatch.setattr(export_onnx, "Reader", HalfScale)
    with pytest.raises(LprnetError, match="differs from PyTorch"):
        export_onnx.export(network, spec, tmp_path / "m.onnx", network_name="small")
    assert not list(tmp_path.iterdir())


def test_tao_preprocessing_and_rule_give_our_plates(
    small: tuple[Path, ModelFacts], small_tao: Path
) -> None:
    """NVIDIA TAO: RGB / 255 as FP32 CHW; drop repeats, then the last class, the blank."""
    crops = trial_pictures(small[1].spec, 12, seed=5)
    session = onnxruntime.InferenceSession(small_tao, providers=["CPUExecutionProvider"])
    feed = {"image_input": crops.astype(np.float32) / 255}
    ids, probs = session.run(["tf_op_layer_ArgMax", "tf_op_layer_Max"], feed)
    assert ids.dtype == np.int32
    assert probs.dtype == np.float32
    characters = small[1].spec.charset.characters
    plates = []
    for row in ids:
        kept = [c for i, c in enumerate(row) if i == 0 or c != row[i - 1]]
        plates.append("".join(characters[c] for c in kept if c < len(characters)))
    ours = decode(*load_runner(small[0], "onnxruntime")(crops), small[1].spec)
    assert tuple(plates) == ours.plates
    assert any(plates)


def test_deepstream_parser_reads_the_tao_form(small_tao: Path) -> None:
    """DeepStream's LPR parser finds INT32 and FP32 outputs by data type and treats class id =
    dictionary length as the blank. Its number of steps: see the next test."""
    facts = verify_file(small_tao)
    by_type = {tensor.element_type: tensor for tensor in facts.outputs}
    assert set(by_type) == {"INT32", "FP32"}
    steps = by_type["INT32"].shape[1]
    assert steps == by_type["FP32"].shape[1] == facts.spec.time_steps
    dictionary = list(facts.spec.charset.characters)
    assert facts.spec.blank == len(dictionary)

    runner = load_runner(small_tao, "openvino")
    ids, probs = runner(trial_pictures(facts.spec, 6, seed=6))
    assert ids.min() >= 0
    assert ids.max() <= len(dictionary)
    assert ((probs > 0) & (probs <= 1)).all()
    for row in range(len(ids)):
        text, previous = "", -1
        for step in range(int(steps)):
            current = int(ids[row, step])
            if current not in (previous, len(dictionary)):
                text += dictionary[current]
            previous = current
        assert text == decode(ids[row : row + 1], probs[row : row + 1], facts.spec).plates[0]


def test_deepstream_is_told_of_steps_that_its_parser_leaves_out() -> None:
    assert export_onnx.deepstream_caveat(PlateSpec(time_steps=24)) is None
    assert "reads 24 of these 48 steps" in str(export_onnx.deepstream_caveat(PlateSpec()))


def test_tao_charset_travels(tmp_path: Path) -> None:
    spec = PlateSpec(charset=TAO_US_CHARSET)
    network = build_network("small", spec)
    path = tmp_path / "us.onnx"
    export_onnx.export(network, spec, path, network_name="small", io="tao")
    facts = verify_file(path)
    assert facts.spec.charset == TAO_US_CHARSET
    assert facts.spec.blank == 35
