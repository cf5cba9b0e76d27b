"""Distortions: deterministic, ever worse, and counted right."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from painted_sets import write_tao

from training.data.records import read_set
from training.evaluation.measure import measure
from training.evaluation.pictures import Picture, load_pictures
from training.evaluation.readers import OnnxReader
from training.evaluation.robustness import (
    DISTORTIONS,
    LEVELS,
    Curve,
    Distortion,
    distort,
    mean_accuracy,
    measure_robustness,
    subset,
)

from onnx_samples import write_onnx  # isort: skip - painted_sets says where it is

BY_NAME = {d.name: d for d in DISTORTIONS}
each = pytest.mark.parametrize("distortion", DISTORTIONS, ids=lambda d: d.name)


def plate(height: int = 80, width: int = 240) -> Picture:
    canvas = np.full((height, width, 3), 225, np.uint8)
    cv2.putText(canvas, "AB 1234", (10, height - 20), cv2.FONT_HERSHEY_SIMPLEX, 1.6, (20,) * 3, 4)
    return Picture(canvas)


def damage(original: Picture, distorted: Picture) -> float:
    """Mean absolute difference after bringing both to one size, in grey levels."""
    size = (240, 80)
    a, b = (cv2.resize(p.pixels, size).astype(float) for p in (original, distorted))
    return float(np.abs(a - b).mean())


@each
def test_level_0_is_the_picture_itself(distortion: Distortion) -> None:
    picture = plate()
    assert distort(picture, distortion, 0, seed=1) is picture


@each
def test_same_seed_same_pixels_and_the_original_stays(distortion: Distortion) -> None:
    picture = plate()
    before = picture.pixels.copy()
    for level in range(1, LEVELS + 1):
        first, again = (distort(picture, distortion, level, seed=7).pixels for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert first.dtype == np.uint8
        assert first.ndim == 3
        assert first.shape[2] == 3
        assert first.flags.c_contiguous
    np.testing.assert_array_equal(picture.pixels, before)


@each
def test_every_level_is_worse_than_the_last(distortion: Distortion) -> None:
    assert len(distortion.amounts) == LEVELS
    picture = plate()
    harm = [damage(picture, distort(picture, distortion, n, seed=3)) for n in range(LEVELS + 1)]
    assert harm[0] == 0
    if distortion.name == "rotation":  # turned strokes cross others: only the frame tells
        shapes = [
            distort(picture, distortion, n, seed=3).pixels.shape[0] for n in range(LEVELS + 1)
        ]
        assert shapes == sorted(set(shapes))
    else:
        # JPEG's blocks can hit a sharp edge by luck: 5 % of slack.
        assert all(b > 0.95 * a for a, b in itertools.pairwise(harm))
        assert harm[-1] > 1.1 * harm[1] > 0


@each
@pytest.mark.parametrize("size", [(9, 14), (13, 61), (300, 512)])
def test_crops_of_any_size(distortion: Distortion, size: tuple[int, int]) -> None:
    for level in range(1, LEVELS + 1):
        made = distort(plate(*size), distortion, level, seed=0).pixels
        assert min(made.shape[:2]) >= 4


def test_geometry_by_hand() -> None:
    picture = plate(100, 200)
    tight, loose, small, turned = (
        distort(picture, BY_NAME[name], level, seed=2).pixels.shape[:2]
        for name, level in (
            ("tight crop", 2),
            ("loose crop", 2),
            ("low resolution", 2),
            ("rotation", 5),
        )
    )
    assert tight == (96, 192)  # 2 % off each side
    assert loose == (120, 240)  # 10 % on each side
    assert small == (24, 48)
    sine, cosine = np.sin(np.pi / 12), np.cos(np.pi / 12)
    assert turned == (round(200 * sine + 100 * cosine), round(200 * cosine + 100 * sine))


def test_darkness_leaves_its_share_of_light() -> None:
    bright = Picture(np.full((50, 100, 3), 200, np.uint8))
    made = distort(bright, BY_NAME["darkness"], 2, seed=0).pixels
    assert made.mean() == pytest.approx(200 * 0.15, abs=0.5)


def test_noise_is_as_strong_on_a_large_crop() -> None:
    strength = [
        (lambda p: float(cv2.resize(p, (96, 48), interpolation=cv2.INTER_AREA).std()))(
            distort(
                Picture(np.full((height, 2 * height, 3), 128, np.uint8)),
                BY_NAME["noise"],
                2,
                seed=1,
            ).pixels
        )
        for height in (48, 240)
    ]
    assert strength[0] == pytest.approx(24, rel=0.1)
    assert strength[1] > 0.6 * strength[0]


def test_curves_count_right_plates(tmp_path: Path) -> None:
    plates = {"a": ("AB12", "AB12"), "b": ("DAUE514", "DAUE514"), "c": ("XYZ", "WRONG")}
    root = write_tao(tmp_path / "set", plates)
    (root / "image" / "d.png").write_bytes(b"no picture")
    (root / "label" / "d.txt").write_text("D1")
    labelled = load_pictures("set", read_set(root))
    reader = OnnxReader(write_onnx(tmp_path / "sample.onnx"))
    untouched = Distortion("nothing", "-", (0, 0, 0, 0, 0), lambda p, _a, _r: p)
    curves = measure_robustness(
        [reader], [measure(reader, labelled)], [labelled], [untouched, BY_NAME["darkness"]]
    )
    assert [(c.distortion, c.right, c.n) for c in curves] == [
        ("nothing", (2, 2, 2, 2, 2, 2), 4),
        ("darkness", (2, 0, 0, 0, 0, 0), 4),  # the sample graph reads grey levels
    ]
    assert curves[0].mean == 0.5
    assert mean_accuracy(curves, "sample") == 0.25


def test_a_draw_of_crops_keeps_its_own_level_0(tmp_path: Path) -> None:
    roots = [
        write_tao(
            tmp_path / name, {f"{i}": ("AB12", "AB12" if i % wrong else "NO") for i in range(n)}
        )
        for name, n, wrong in (("one", 30, 3), ("two", 10, 2))
    ]
    sets = [load_pictures(root.name, read_set(root)) for root in roots]
    reader = OnnxReader(write_onnx(tmp_path / "sample.onnx"))
    measured = [measure(reader, labelled) for labelled in sets]
    untouched = Distortion("nothing", "-", (0, 0, 0, 0, 0), lambda p, _a, _r: p)
    (curve,) = measure_robustness([reader], measured, sets, [untouched], crops=16)
    assert curve.n == 16
    assert len(set(curve.right)) == 1  # an untouched level equals level 0 of the same crops
    assert 0 < curve.right[0] < 16
    assert subset(sets, 16) == subset(sets, 16)
    assert [len(part) for part in subset(sets, 0)] == [len(p) for p in subset(sets, 99)] == [30, 10]
    assert all(part == sorted(set(part)) for part in subset(sets, 16))
    assert sum(map(len, subset(sets, 16))) == 16


def test_curve_by_hand() -> None:
    curve = Curve("r", "blur", (10, 8, 6, 4, 2, 0), 10)
    assert curve.shares == (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
    assert curve.mean == pytest.approx(0.4)
    low, high = curve.intervals[1]
    assert low < 0.8 < high
