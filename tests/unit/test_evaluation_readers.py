"""Readers: the same pictures give the same plates through every way of reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from painted_sets import pixels, write_tao

from lprnet.image import decode_image
from lprnet.plate_spec import PlateSpec
from training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from training.data.records import read_set
from training.evaluation.measure import measure, measure_speed, read_all
from training.evaluation.peers import PeerReader, known_peers
from training.evaluation.pictures import Picture, encode_png, load_pictures
from training.evaluation.readers import CheckpointReader, OnnxReader, ReaderError
from training.network import build_network
from training.validation import read_crops

from onnx_samples import paint, write_onnx  # isort: skip - painted_sets says where it is

TEXTS = ["AB12", "DAUE514", "0O1I", "AABB11"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("onnx") / "sample.onnx")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    spec = PlateSpec()
    network = build_network("small", spec, {"stem": 8, "middle": 16, "deep": 16}).eval()
    options = {"stem": 8, "middle": 16, "deep": 16}
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    save_checkpoint(Checkpoint(network, "small", options, spec, temperature=2.0), path)
    return path


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_onnx_reads_what_is_painted(sample: Path, runtime: str) -> None:
    pytest.importorskip(runtime)
    with OnnxReader(sample, runtime) as reader:
        answers = reader.read([Picture(pixels(text)) for text in TEXTS])
    assert list(answers.plates) == TEXTS
    assert ((answers.confidences > 0) & (answers.confidences <= 1)).all()


def test_onnx_must_be_ours(tmp_path: Path, sample: Path) -> None:
    with pytest.raises(ReaderError, match="no ONNX at"):
        OnnxReader(tmp_path / "missing.onnx")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(sample.read_bytes()[:200])
    with pytest.raises(ReaderError, match="cannot load"):
        OnnxReader(damaged)
    model = onnx.load(sample)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ReaderError, match="names no plate spec"):
        OnnxReader(tmp_path / "foreign.onnx")


def test_checkpoint_reads_as_the_trainer_does(checkpoint: Path) -> None:
    rng = np.random.default_rng(4)
    crops = rng.integers(0, 256, (5, 3, 48, 96), dtype=np.uint8)
    pictures = [Picture(np.ascontiguousarray(crop.transpose(1, 2, 0))) for crop in crops]
    reader = CheckpointReader(checkpoint)
    answers = reader.read(pictures)
    loaded = load_checkpoint(checkpoint)
    plates, confidences = read_crops(
        loaded.network, crops, loaded.spec, torch.device("cpu"), temperature=2.0
    )
    assert list(answers.plates) == plates
    np.testing.assert_allclose(answers.confidences, confidences, rtol=1e-4, atol=1e-7)
    assert reader.logits(pictures).shape == (5, 48, 37)


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        CheckpointReader(tmp_path / "no.pt")


def test_missing_peer(tmp_path: Path) -> None:
    assert known_peers(tmp_path) == []
    with pytest.raises(ReaderError, match="holds no model"):
        PeerReader("cct_xs_v2_global", tmp_path)


def test_a_picture_without_file_becomes_a_lossless_one() -> None:
    made = Picture(pixels("AB12"))
    np.testing.assert_array_equal(decode_image(made.file), made.pixels)
    assert Picture(made.pixels, b"as it came").file == b"as it came"


def test_unreadable_pictures_count_as_wrong(tmp_path: Path, sample: Path) -> None:
    plates = {f"p{i}": (text, text) for i, text in enumerate(TEXTS)}
    root = write_tao(tmp_path / "set", plates)
    (root / "image" / "p1.png").write_bytes(encode_png(pixels("AB12"))[:60])
    labelled = load_pictures("set", read_set(root))
    assert [path for path, _ in labelled.unreadable] == [str(root / "image" / "p1.png")]
    measured = measure(OnnxReader(sample), labelled)
    assert measured.answers.plates == ("AB12", "", "0O1I", "AABB11")
    assert measured.answers.confidences[1] == 0
    assert (measured.scores.total.strict.right, measured.scores.n) == (3, 4)


def test_batches_do_not_mix_answers_up(sample: Path) -> None:
    pictures = [Picture(pixels(text)) for text in TEXTS] * 5
    pictures.insert(3, None)  # type: ignore[arg-type]
    reader = OnnxReader(sample)
    one = read_all(reader, pictures, "", batch=1)
    for batch in (2, 7, 64):
        many = read_all(reader, pictures, "", batch=batch)
        assert many.plates == one.plates
        np.testing.assert_array_equal(many.confidences, one.confidences)
    assert one.plates[:5] == ("AB12", "DAUE514", "0O1I", "", "AABB11")


def test_speed_is_measured_for_every_reader(sample: Path) -> None:
    first, second = OnnxReader(sample, name="a"), OnnxReader(sample, name="b")
    speeds = measure_speed([first, second], [Picture(pixels("AB12"))] * 8, crops=4, rounds=2)
    assert set(speeds) == {"a", "b"}
    for speed in speeds.values():
        assert speed.crops == 4
        assert 0 < speed.batch1_p50_ms <= speed.batch1_p99_ms < 1000
        assert 0 < speed.batch32_ms < 1000


def test_paint_is_what_the_pictures_hold() -> None:
    np.testing.assert_array_equal(pixels("AB12").transpose(2, 0, 1), paint("AB12"))
