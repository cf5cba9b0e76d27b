"""`lprnet repository` around sample ONNX files: what it makes, and what it refuses."""

from __future__ import annotations

import filecmp
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto
from tritonclient.grpc import model_config_pb2 as pb

import lprnet
from lprnet import contract
from lprnet.charset import TAO_US_CHARSET
from lprnet.errors import LprnetError
from lprnet.plate_spec import DEFAULT_SPEC, PlateSpec
from lprnet_cli import VERBS, load_verb, main

sys.path.append(str(Path(__file__).resolve().parents[1]))
from onnx_samples import build_onnx, sign, write_onnx

OTHER_SPEC = PlateSpec(charset=TAO_US_CHARSET, blank=0, time_steps=24, rows=1)
PYTHON_MODELS = (contract.ENGINE_MODEL, contract.DECODER_MODEL, contract.IMAGE_DECODER_MODEL)


@pytest.fixture(scope="module")
def assemble() -> ModuleType:
    return load_verb(VERBS["repository"])


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "sample.onnx")


def engine_part(repository: Path, name: str) -> Path:
    return repository / contract.ENGINE_MODEL / "1" / name


def test_the_folder_is_complete(assemble: ModuleType, sample: Path, tmp_path: Path) -> None:
    done = assemble.assemble(sample, tmp_path / "out")
    assert engine_part(done.folder, "model.onnx").read_bytes() == sample.read_bytes()
    package = Path(lprnet.__file__).parent
    for model in PYTHON_MODELS:
        folder = done.folder / model / "1"
        assert PlateSpec.from_file(folder / contract.SPEC_FILE) == DEFAULT_SPEC
        modules = [path.name for path in package.glob("*.py")]
        assert filecmp.cmpfiles(package, folder / "lprnet", modules, shallow=False)[0] == modules
        assert (folder / "model.py").is_file()
    assert not list(done.folder.rglob("__pycache__"))
    record = json.loads(engine_part(done.folder, contract.MODEL_RECORD_FILE).read_text())
    assert record["plate_spec_digest"] == DEFAULT_SPEC.digest
    assert record["network"] == "sample"
    assert record["probe"]["plate"] != ""


def test_sizes_in_the_configs_follow_the_plate_spec(assemble: ModuleType, tmp_path: Path) -> None:
    onnx_file = write_onnx(tmp_path / "other.onnx", OTHER_SPEC)
    out = assemble.assemble(onnx_file, tmp_path / "out").folder
    seen = 0
    for path in out.glob("*/**/*.pbtxt"):
        config = text_format.Parse(path.read_text(), pb.ModelConfig())
        for tensor in (*config.input, *config.output):
            if tensor.name in (contract.CHAR_IDS, contract.CHAR_PROBS):
                seen += 1
                assert list(tensor.dims) == [OTHER_SPEC.time_steps], path
    assert seen > 0
    # Back to the default spec in the same folder.
    again = assemble.assemble(write_onnx(tmp_path / "default.onnx"), tmp_path / "out").folder
    shipped = assemble.REPOSITORY / "lprnet" / "config.pbtxt"
    assert (again / "lprnet" / "config.pbtxt").read_text() == shipped.read_text()


def test_other_weights_drop_the_plan_built_from_the_old_ones(
    assemble: ModuleType, sample: Path, tmp_path: Path
) -> None:
    out = assemble.assemble(sample, tmp_path / "out").folder
    plan = engine_part(out, "model.plan")
    plan.write_bytes(b"a plan")
    assemble.assemble(sample, out)
    assert plan.exists()
    assemble.assemble(write_onnx(tmp_path / "other.onnx", OTHER_SPEC), out)
    assert not plan.exists()


def test_what_the_export_recorded_is_kept(
    assemble: ModuleType, sample: Path, tmp_path: Path
) -> None:
    first = assemble.assemble(sample, tmp_path / "out").record
    beside = {"onnx_sha256": first["onnx_sha256"], "parity": {"identical": 1.0}}
    sample.with_suffix(".json").write_text(json.dumps(beside))
    assert assemble.assemble(sample, tmp_path / "out").record["parity"] == {"identical": 1.0}
    sample.with_suffix(".json").write_text(json.dumps({**beside, "onnx_sha256": "another"}))
    assert "parity" not in assemble.assemble(sample, tmp_path / "out").record


def signed(model: onnx.ModelProto, spec: PlateSpec = DEFAULT_SPEC) -> bytes:
    return sign(model, spec, network="sample", precision="fp32")


def edited_graph() -> bytes:
    model = onnx.load_from_string(signed(build_onnx()))
    model.graph.node[0].name = "edited"
    return model.SerializeToString()


def edited_charset() -> bytes:
    model = onnx.load_from_string(signed(build_onnx()))
    for entry in model.metadata_props:
        if entry.key == contract.META_SPEC:
            entry.value = entry.value.replace('"A","B"', '"B","A"')
    return model.SerializeToString()


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "no ONNX": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(64), "no ONNX file|truncated"),
    "empty": (lambda: b"", "no graph"),
    "truncated": (lambda: signed(build_onnx())[:-100], "truncated"),
    "not ours": (lambda: build_onnx().SerializeToString(), "not written by `lprnet export`"),
    "graph edited after signing": (edited_graph, "changed after it was signed"),
    "charset edited after signing": (edited_charset, "changed after it was signed"),
    "wrong T": (lambda: signed(build_onnx(time_steps=24)), "plate spec"),
    "float input": (lambda: signed(build_onnx(input_type=TensorProto.FLOAT)), "FP32"),
    "other input name": (lambda: signed(build_onnx(input_name="input.1")), "input.1"),
    "INT64 ids": (lambda: signed(build_onnx(id_type=TensorProto.INT64)), "INT64"),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=list(REFUSED))
def test_refused_with_one_line_and_nothing_written(
    assemble: ModuleType, make: Callable[[], bytes], reason: str, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(make())
    with pytest.raises(LprnetError, match=reason) as caught:
        assemble.assemble(bad, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert "bad.onnx" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_verb(sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["repository", "--onnx", str(sample), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert re.search(r"sample fp32, 36 characters, T = 48", capsys.readouterr().out)
    assert main(["repository", "--onnx", str(tmp_path / "none.onnx")]) == 2
    assert "none.onnx" in capsys.readouterr().err
