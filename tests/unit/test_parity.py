"""`lprnet parity`: agreement passes, every kind of disagreement fails the command."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from sample_readers import exported, pictures, random_reader

from lprnet.errors import LprnetError
from lprnet.model_file import ModelError, verify_file
from lprnet.plate_spec import PlateSpec
from training.checkpoint import Checkpoint, save_checkpoint
from training.data.records import DatasetError

import check_parity  # isort: skip - sample_readers says where build/ is
from labelled import LabelledCrops, load_set  # isort: skip
from model_metadata import sign  # isort: skip
from runtimes import OnnxRuntimeRunner, TorchRunner, load_runner  # isort: skip

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def _damaged(scale: float) -> bytes:
    """The exported model with its first convolution's weights scaled, signed again."""
    model = onnx.load(exported())
    first = next(node for node in model.graph.node if node.op_type == "Conv").input[1]
    weights = next(t for t in model.graph.initializer if t.name == first)
    values = numpy_helper.to_array(weights) * np.float32(scale)
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    facts = verify_file(exported())
    return sign(model, facts.spec, network="small", precision="fp32", extra={})


def _parse(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    check_parity.add_arguments(parser)
    return parser.parse_args([str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the exported model and its record."""
    for suffix in (".onnx", ".json"):
        shutil.copy(exported().with_suffix(suffix), tmp_path / f"model{suffix}")
    return tmp_path / "model.onnx"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    network, spec = random_reader("small")
    path = tmp_path / "best.pt"
    save_checkpoint(Checkpoint(network, "small", {}, spec, temperature=1.3), path)  # as exported
    return path


def test_equal_forms_pass_and_are_recorded(
    model: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_parity.run(_parse(model, "--checkpoint", checkpoint)) == 0
    printed = capsys.readouterr().out
    assert "reference: PyTorch fp32" in printed
    assert "parity holds" in printed
    assert "temperature" not in printed
    record = json.loads(model.with_suffix(".json").read_text())
    assert record["parity"]["passed"] is True
    assert record["onnx_sha256"] == verify_file(model).file_digest
    rows = record["parity"]["rows"]
    assert {row["label"] for row in rows} == {"ONNX Runtime fp32", "OpenVINO fp32"}
    assert all(row["same_percent"] == 100 for row in rows)


def test_a_temperature_fitted_since_is_told_of(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, spec = random_reader("small")
    fitted = tmp_path / "fitted.pt"
    save_checkpoint(Checkpoint(network, "small", {}, spec, temperature=1.25), fitted)
    assert check_parity.run(_parse(model, "--checkpoint", fitted)) == 0
    printed = capsys.readouterr().out
    assert "note: compared at model.onnx's temperature 1.3; the checkpoint has 1.25" in printed


def test_weights_that_differ_fail_the_command(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(_damaged(1.1))
    assert check_parity.run(_parse(path, "--checkpoint", checkpoint)) == 1
    assert "parity FAILS" in capsys.readouterr().out
    assert json.loads(path.with_suffix(".json").read_text())["parity"]["passed"] is False


def test_a_small_change_shows_as_probability_only() -> None:
    """A hundredth keeps most plates but not the probabilities."""
    reference = load_runner(exported(), "onnxruntime")
    other = OnnxRuntimeRunner(_damaged(1.01), "other.onnx")
    (row,) = check_parity.compare(reference, [(other, "fp32")], pictures(32))
    assert any("probabilities differ" in failure for failure in row.failures)
    assert row.same_percent > 50


def test_lost_accuracy_fails() -> None:
    plain = pictures(64, seed=41)
    network, spec = random_reader("small")
    reference = TorchRunner(network, spec, temperature=1.3)
    from lprnet.ctc import decode

    texts = decode(*reference(plain.crops), spec).plates
    labelled = LabelledCrops("set", plain.crops, texts, plain.digests)
    other = OnnxRuntimeRunner(_damaged(1.2), "other.onnx")
    (row,) = check_parity.compare(reference, [(other, "int8")], labelled)
    assert row.reference_accuracy == 100
    assert row.accuracy is not None
    assert row.accuracy < 99.7
    assert any(f.startswith("loses") for f in row.failures)
    assert any("read the same" in f for f in row.failures)


def test_not_a_number_is_no_agreement() -> None:
    assert check_parity._failures(check_parity.TOLERANCES["fp32"], float("nan"), 100, None, None)
    assert not check_parity._failures(check_parity.TOLERANCES["fp32"], 0.0, 100, 90.0, 90.0)


def test_int8_must_come_from_this_model(model: Path, tmp_path: Path) -> None:
    foreign = onnx.load(exported(precision="int8"))
    path = tmp_path / "foreign.onnx"
    path.write_bytes(sign(foreign, PlateSpec(), network="small", precision="int8"))
    with pytest.raises(ModelError, match="was not made from this FP32 model"):
        check_parity.run(_parse(model, "--int8", path))
    with pytest.raises(ModelError, match="is fp32, not int8"):
        check_parity.run(_parse(model, "--int8", exported()))


def test_int8_runs_beside_fp32(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    int8 = model.with_name("int8.onnx")
    for suffix in (".onnx", ".json"):
        shutil.copy(exported(precision="int8").with_suffix(suffix), int8.with_suffix(suffix))
    check_parity.run(_parse(model, "--int8", int8))
    printed = capsys.readouterr().out
    assert "OpenVINO int8" in printed
    assert "ONNX Runtime int8" in printed
    assert json.loads(int8.with_suffix(".json").read_text())["parity"]["rows"]


def test_missing_data_folder_is_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(check_parity.DATA_VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(LprnetError, match="LPRNET_DATA names a folder without val/ sets"):
        check_parity.run(_parse(model))


@pytest.mark.real_plates
def test_real_plates_agree(model: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(os.environ.get(check_parity.DATA_VARIABLE, SHARED))
    if not (data / "val").is_dir():
        pytest.skip("needs real plates: set LPRNET_DATA")
    monkeypatch.setenv(check_parity.DATA_VARIABLE, str(data))
    assert check_parity.run(_parse(model, "--checkpoint", checkpoint, "--limit", "24")) == 0
    sets = {
        row["set_name"]
        for row in json.loads(model.with_suffix(".json").read_text())["parity"]["rows"]
    }
    assert len(sets) > 1


def test_an_unreadable_picture_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen to fail: one empty file kept a model from being proven."""
    for folder in ("image", "label"):
        (tmp_path / folder).mkdir()
    for text in ("AB12CD", "EMPTY1"):
        (tmp_path / "label" / f"{text}.txt").write_text(text)
    cv2.imwrite(str(tmp_path / "image" / "AB12CD.jpg"), np.zeros((48, 96, 3), np.uint8))
    (tmp_path / "image" / "EMPTY1.jpg").touch()
    labelled = load_set(tmp_path, PlateSpec())
    assert labelled.texts == ("AB12CD",)
    assert len(labelled.crops) == len(labelled.digests) == 1
    assert "left out" in capsys.readouterr().err
    (tmp_path / "image" / "AB12CD.jpg").unlink()
    (tmp_path / "image" / "AB12CD.jpg").touch()
    with pytest.raises(DatasetError, match="no picture of"):
        load_set(tmp_path, PlateSpec())
