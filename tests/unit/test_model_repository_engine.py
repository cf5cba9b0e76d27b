"""The engine's checks at load and its two runtimes, outside the server."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import lprnet
from lprnet import contract
from lprnet.charset import TAO_US_CHARSET
from lprnet.ctc import decode
from lprnet.errors import LprnetError, SpecError
from lprnet.model_file import ModelError
from lprnet.plate_spec import DEFAULT_SPEC, PlateSpec

sys.path.append(str(Path(__file__).resolve().parents[1]))
from onnx_samples import build_onnx, paint, sign, write_onnx, write_record

ENGINE_FOLDER = Path(__file__).resolve().parents[2] / "model_repository" / "lprnet" / "1"


def load_module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ENGINE_FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


engine = load_module("lprnet_engine")
model_file = load_module("lprnet_model_file")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Version folder of an assembled engine."""
    write_onnx(tmp_path / contract.MODEL_FILE)
    (tmp_path / contract.SPEC_FILE).write_text(DEFAULT_SPEC.to_json())
    return tmp_path


def test_files_of_one_kin_are_taken(folder: Path) -> None:
    facts = model_file.check_model_file(folder / "model.onnx")
    assert facts.spec == DEFAULT_SPEC
    assert facts.description == f"sample fp32 {lprnet.__version__}"


@pytest.mark.parametrize("name", ["model.onnx", contract.MODEL_RECORD_FILE, contract.SPEC_FILE])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(LprnetError, match=name):
        model_file.check_model_file(folder / "model.onnx")


def test_an_onnx_that_was_replaced_is_refused(folder: Path) -> None:
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(SpecError, match=r"model\.onnx is not the file that model\.json names"):
        model_file.check_model_file(folder / "model.onnx")


def test_an_onnx_that_was_edited_with_its_record_is_refused(folder: Path) -> None:
    """The seal in the file itself is checked too, by the builder's own function."""
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes().replace(b"sample", b"simple"))
    write_record(path)
    with pytest.raises(ModelError, match=r"model\.onnx: .* changed after it was signed"):
        model_file.check_model_file(path)


def test_int8_is_served_where_openvino_runs_it(folder: Path) -> None:
    fp32, int8 = folder / contract.MODEL_FILE, folder / contract.INT8_MODEL_FILE
    assert model_file.model_path(folder, "auto", "openvino") == fp32
    int8.touch()
    assert model_file.model_path(folder, "auto", "openvino") == int8
    assert model_file.model_path(folder, "auto", "onnxruntime") == fp32
    assert model_file.model_path(folder, "model.onnx", "openvino") == fp32


def test_a_plate_spec_of_other_weights_is_refused(folder: Path) -> None:
    (folder / contract.SPEC_FILE).write_text(PlateSpec(charset=TAO_US_CHARSET).to_json())
    with pytest.raises(SpecError, match=r"is not the plate spec of model\.onnx"):
        model_file.check_model_file(folder / "model.onnx")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"plate_spec_digest": 1}'])
def test_a_record_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / contract.MODEL_RECORD_FILE).write_text(text)
    with pytest.raises(SpecError, match=r"model\.json is no record"):
        model_file.check_model_file(folder / "model.onnx")


@pytest.mark.parametrize("runtime", engine.RUNTIMES)
def test_both_runtimes_read_the_same_whatever_the_batch(tmp_path: Path, runtime: str) -> None:
    path = write_onnx(tmp_path / "model.onnx")
    options = engine.EngineOptions(runtime=runtime, threads=1, warmup_batches=())
    loaded = engine.load_engine(path, DEFAULT_SPEC, options)
    texts = ["A", "AA00", "M8K", "", "0123456789ABCDEFGHIJK", "ZZ", "HH111", "B"]
    crops = np.stack([paint(text) for text in texts])
    ids, probs = loaded.infer(crops)
    assert (ids.dtype, probs.dtype) == (np.int32, np.float32)
    assert list(decode(ids, probs, DEFAULT_SPEC).plates) == texts
    for row, crop in enumerate(crops):
        alone_ids, alone_probs = loaded.infer(crop[np.newaxis])
        np.testing.assert_array_equal(alone_ids[0], ids[row])
        np.testing.assert_array_equal(alone_probs[0], probs[row])


@pytest.mark.parametrize("runtime", engine.RUNTIMES)
def test_a_graph_with_another_time_axis_is_refused(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "model.onnx"
    model = build_onnx(time_steps=24)
    path.write_bytes(sign(model, DEFAULT_SPEC, network="sample", precision="fp32"))
    with pytest.raises(SpecError, match=r"char_ids int32 \[-1, 24\].*expected"):
        engine.load_engine(path, DEFAULT_SPEC, engine.EngineOptions(runtime=runtime))


@pytest.mark.parametrize("runtime", engine.RUNTIMES)
def test_a_file_that_the_runtime_cannot_read_is_one_line(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(LprnetError, match=r"cannot run model\.onnx") as caught:
        engine.load_engine(path, DEFAULT_SPEC, engine.EngineOptions(runtime=runtime))
    assert "\n" not in str(caught.value)


def test_an_unknown_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LprnetError, match="tflite"):
        engine.load_engine(
            tmp_path / "model.onnx", DEFAULT_SPEC, engine.EngineOptions(runtime="tflite")
        )


@pytest.mark.parametrize("name", ["model.onnx", "model_int8.onnx"])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_answer_does_not_depend_on_its_batch(name: str, threads: int) -> None:
    """To the last bit. Seen to fail with a graph of fixed shape for single pictures."""
    openvino_graph = pytest.importorskip("lprnet.openvino_graph")
    model = openvino_graph.read_graph(str(ENGINE_FOLDER / name))
    graph = openvino_graph.OpenVinoGraph(model, ("char_ids", "char_probs"), threads)
    crops = np.stack([paint(text) for text in ("A1", "BC23", "DEF456", "", "G7", "H8", "JK9")])
    ids, probs = graph(crops)
    for size in (1, 3):
        for at in range(0, 7, size):
            alone_ids, alone_probs = graph(crops[at : at + size])
            assert np.array_equal(alone_ids, ids[at : at + size])
            assert np.array_equal(alone_probs, probs[at : at + size])


@pytest.mark.parametrize(("threads", "shared"), [(1, None), (2, 2), (16, 4)])
def test_a_lone_picture_does_not_keep_a_large_machine_busy(
    monkeypatch: pytest.MonkeyPatch, threads: int, shared: int | None
) -> None:
    openvino_graph = pytest.importorskip("lprnet.openvino_graph")
    compile_graph, asked = openvino_graph.compile_graph, []

    def note(model: Any, count: int, hint: str, cache: str, streams: int, batch: int) -> Any:
        asked.append((count, streams, batch))
        return compile_graph(model, count, hint, cache, streams, batch)

    monkeypatch.setattr(openvino_graph, "compile_graph", note)
    model = openvino_graph.read_graph(str(ENGINE_FOLDER / "model_int8.onnx"))
    openvino_graph.OpenVinoGraph(model, ("char_ids", "char_probs"), threads)
    lanes = min(threads, 8)
    assert asked[:8] == [(threads, lanes, size) for size in range(1, 9)]
    assert asked[8:] == ([] if shared is None else [(shared, 1, 1)])


@pytest.mark.parametrize(
    ("threads", "size", "parts"),
    [
        (1, 7, [7]),
        (1, 17, [6, 6, 5]),
        (2, 2, [1, 1]),
        (2, 3, [2, 1]),
        (2, 31, [8, 8, 8, 7]),
        (2, 64, [8] * 8),
        (3, 2, [1, 1]),
        (3, 50, [6, 6, 6, 6, 6, 5, 5, 5, 5]),
        (64, 64, [8] * 8),
    ],
)
def test_parts_answer_what_one_graph_of_free_batch_size_answers(
    threads: int, size: int, parts: list[int]
) -> None:
    """To the last bit. Seen to fail with OpenVINO's generated kernels in the fixed graphs."""
    openvino_graph = pytest.importorskip("lprnet.openvino_graph")
    model = openvino_graph.read_graph(str(ENGINE_FOLDER / "model_int8.onnx"))
    names = ("char_ids", "char_probs")
    free = openvino_graph.compile_graph(model, threads)
    graph = openvino_graph.OpenVinoGraph(model, names, threads)
    crops = np.random.default_rng(3).integers(0, 256, (size, *DEFAULT_SPEC.image_shape), np.uint8)
    assert graph.shares(size) == parts
    expected = free([crops])
    for name, answer in zip(names, graph(crops), strict=True):
        assert np.array_equal(answer, expected[name])


def test_a_runtime_without_the_property_of_kernels_still_agrees_with_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    openvino_graph = pytest.importorskip("lprnet.openvino_graph")
    monkeypatch.setattr(openvino_graph, "GENERATED_KERNELS", "NO_SUCH_PROPERTY")
    model = openvino_graph.read_graph(str(ENGINE_FOLDER / "model_int8.onnx"))
    graph = openvino_graph.OpenVinoGraph(model, ("char_ids", "char_probs"), 2)
    crops = np.random.default_rng(3).integers(0, 256, (23, *DEFAULT_SPEC.image_shape), np.uint8)
    ids, probs = graph(crops)
    for at in range(23):
        alone_ids, alone_probs = graph(crops[at : at + 1])
        assert np.array_equal(alone_ids, ids[at : at + 1])
        assert np.array_equal(alone_probs, probs[at : at + 1])
