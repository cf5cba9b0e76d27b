"""`lprnet repository` around sample ONNX files: what it makes, and what it refuses."""

from __future__ import annotations

import dataclasses
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, numpy_helper
from tritonclient.grpc import model_config_pb2 as pb

import lprnet
from lprnet import contract
from lprnet.charset import TAO_US_CHARSET
from lprnet.engine_record import record_path
from lprnet.errors import LprnetError
from lprnet.model_file import verify_file
from lprnet.plate_spec import DEFAULT_SPEC, PlateSpec
from lprnet_cli import VERBS, load_verb, main

sys.path.append(str(Path(__file__).resolve().parents[1]))
from onnx_samples import build_onnx, sign, write_onnx, write_record
from test_engine_record import PLAN, RECORD

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
    plan.write_bytes(PLAN)
    digest = json.loads(engine_part(out, contract.MODEL_RECORD_FILE).read_text())["onnx_sha256"]
    record_path(plan).write_text(dataclasses.replace(RECORD, onnx_sha256=digest).to_json())
    assemble.assemble(sample, out)
    assert plan.exists()
    assemble.assemble(write_onnx(tmp_path / "other.onnx", OTHER_SPEC), out)
    assert not plan.exists()
    assert not record_path(plan).exists()
    plan.write_bytes(PLAN)  # without a record nobody can tell what it is
    assemble.assemble(sample, out)
    assert not plan.exists()


def test_what_the_export_recorded_is_kept(
    assemble: ModuleType, sample: Path, tmp_path: Path
) -> None:
    beside = json.loads(sample.with_suffix(".json").read_text())
    beside["temperature"] = 1.3
    sample.with_suffix(".json").write_text(json.dumps(beside))
    record = assemble.assemble(sample, tmp_path / "out").record
    assert record["temperature"] == 1.3
    assert record["parity"] == beside["parity"]


@pytest.mark.parametrize(("off_by", "kept"), [(0.001, True), (-0.2, False)])
def test_the_probe_of_another_cpu_is_kept_where_it_holds(
    assemble: ModuleType, sample: Path, tmp_path: Path, off_by: float, kept: bool
) -> None:
    probe = assemble.assemble(sample, tmp_path / "first").record["probe"]
    beside = json.loads(sample.with_suffix(".json").read_text())
    beside["probe"] = {**probe, "confidence": probe["confidence"] + off_by}
    sample.with_suffix(".json").write_text(json.dumps(beside))
    again = assemble.assemble(sample, tmp_path / "second").record["probe"]
    assert again == (beside["probe"] if kept else probe)


def record_of_another(path: Path) -> None:
    values = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**values, "onnx_sha256": "another"}))


UNPROVEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no record": (lambda path: path.with_suffix(".json").unlink(), "is not proven yet: run"),
    "a record without parity": (
        lambda path: path.with_suffix(".json").write_text("{}") and None,
        "is not proven yet: run",
    ),
    "another file's record": (record_of_another, "is not proven yet: run"),
    "failed": (lambda path: write_record(path, passed=False), "failed the last"),
}


@pytest.mark.parametrize(("spoil", "reason"), UNPROVEN.values(), ids=list(UNPROVEN))
def test_nothing_unproven_is_assembled(
    assemble: ModuleType, sample: Path, tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(sample)
    with pytest.raises(LprnetError, match=rf"sample\.onnx {reason} `lprnet parity .*sample\.onnx"):
        assemble.assemble(sample, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def pair(sample: Path) -> tuple[Path, Path]:
    """The sample and what stands for its INT8 form: the same graph, signed as such."""
    int8 = sample.with_name("sample_int8.onnx")
    write_int8(int8, source=verify_file(sample).weights_digest)
    return sample, int8


def write_int8(
    path: Path, source: str, spec: PlateSpec = DEFAULT_SPEC, less_sure: float = 0.1
) -> None:
    extra = {contract.META_SOURCE: source}
    model = build_onnx(spec)
    half = next(tensor for tensor in model.graph.initializer if tensor.name == "half")
    half.CopyFrom(numpy_helper.from_array(np.float32(less_sure), "half"))
    path.write_bytes(sign(model, spec, network="sample", precision="int8", extra=extra))
    write_record(path)


def test_int8_lies_beside_with_its_own_record(
    assemble: ModuleType, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    done = assemble.assemble(pair[0], tmp_path / "out", pair[1])
    for source, name, precision in zip(
        pair, ("model", "model_int8"), ("fp32", "int8"), strict=True
    ):
        placed = engine_part(done.folder, f"{name}.onnx")
        assert placed.read_bytes() == source.read_bytes()
        record = json.loads(placed.with_suffix(".json").read_text())
        assert record["precision"] == precision
        assert record["probe"]["plate"] == done.record["probe"]["plate"]
    assert default_file(done.folder, "openvino") == "model_int8.onnx"
    assert default_file(done.folder, "onnxruntime") == "model.onnx"
    # Other weights come alone: the old INT8 form must not be served in their place.
    assemble.assemble(write_onnx(tmp_path / "other.onnx", OTHER_SPEC), done.folder)
    assert not list(engine_part(done.folder, "").glob("model_int8.*"))
    assert default_file(done.folder, "openvino") == "model.onnx"


def default_file(repository: Path, profile: str) -> str:
    path = repository / contract.ENGINE_MODEL / "configs" / f"{profile}.pbtxt"
    config = text_format.Parse(path.read_text(), pb.ModelConfig())
    return str(config.default_model_filename)


def test_int8_of_other_weights_or_unproven_is_refused(
    assemble: ModuleType, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    fp32, int8 = pair
    out = tmp_path / "out"
    with pytest.raises(LprnetError, match=r"sample_int8\.onnx is int8: name it with --int8"):
        assemble.assemble(int8, out)
    with pytest.raises(LprnetError, match=r"sample\.onnx is fp32: name it with --onnx"):
        assemble.assemble(fp32, out, fp32)
    write_record(int8, passed=False)
    with pytest.raises(LprnetError, match=r"sample_int8\.onnx failed the last .*--int8"):
        assemble.assemble(fp32, out, int8)
    write_int8(int8, source="of others")
    with pytest.raises(LprnetError, match=r"sample_int8\.onnx was not made from sample\.onnx"):
        assemble.assemble(fp32, out, int8)
    write_int8(int8, source=verify_file(fp32).weights_digest, spec=PlateSpec(blank=0))
    with pytest.raises(LprnetError, match=r"sample_int8\.onnx was exported for another plate spec"):
        assemble.assemble(fp32, out, int8)
    write_int8(int8, source=verify_file(fp32).weights_digest, less_sure=0.9)
    with pytest.raises(LprnetError, match=r"sample_int8\.onnx reads the probe picture as"):
        assemble.assemble(fp32, out, int8)
    assert not out.exists()


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


def test_weights_that_read_nothing_are_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = build_onnx()
    (scale,) = [part for part in model.graph.initializer if part.name == "scale"]
    scale.CopyFrom(numpy_helper.from_array(np.float32(1e6), "scale"))  # the last class: blank
    blank = tmp_path / "blank.onnx"
    blank.write_bytes(signed(model))
    write_record(blank)
    assert main(["repository", "--onnx", str(blank), "--out", str(tmp_path / "out")]) == 0
    assert "warning: these weights read nothing on the known plate" in capsys.readouterr().err
    assert engine_part(tmp_path / "out", "model.onnx").is_file()


def test_make_serves_weights_without_an_int8_form(tmp_path: Path) -> None:
    """Seen to fail: `lprnet repository --onnx X` takes the INT8 form away, and make wanted it."""
    shutil.copy(Path(lprnet.__file__).parents[1] / "Makefile", tmp_path)
    needed = ["pyproject.toml", "requirements.lock", ".venv/bin/python", ".venv/.stamp-serve"]
    needed += ["build/assemble.py", "build/repository_parts.py", "lprnet/__init__.py"]
    needed += ["model_repository/lprnet/1/model.onnx"]
    for name in needed:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    dry = subprocess.run(
        ["make", "-n", "serve"],
        cwd=tmp_path,
        env=outer,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "lprnet serve" in dry.stdout
