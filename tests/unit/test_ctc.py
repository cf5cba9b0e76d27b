"""Greedy CTC: hand-worked tables, agreement with a naive decoder, round trips."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lprnet.charset import Charset
from lprnet.contract import MAX_CHARACTERS
from lprnet.ctc import decode
from lprnet.errors import SpecError
from lprnet.plate_spec import DEFAULT_SPEC, PlateSpec

# Charset AB: blank last -> A=0 B=1 blank=2; blank first -> blank=0 A=1 B=2.
LAST = PlateSpec(charset=Charset.from_text("AB"), time_steps=5, rows=1)
FIRST = PlateSpec(charset=Charset.from_text("AB"), blank=0, time_steps=5, rows=1)

TABLE = [
    # path, plate, confidence of each character
    ([2, 2, 2, 2, 2], "", []),  # all blank
    ([0, 0, 0, 0, 0], "A", [0.9]),  # one run, its maximum counts once
    ([0, 2, 0, 2, 2], "AA", [0.5, 0.7]),  # A-blank-A are two characters
    ([0, 0, 1, 1, 2], "AB", [0.6, 0.8]),  # neighbours without a blank between
    ([2, 2, 2, 2, 1], "B", [0.9]),  # a run that ends with the row
    ([0, 1, 0, 1, 0], "ABABA", [0.5, 0.6, 0.7, 0.8, 0.9]),
]
PROBS = np.array([0.5, 0.6, 0.7, 0.8, 0.9], np.float32)


@pytest.fixture(params=[1, 6], ids=["a few", "many"])
def times(request: pytest.FixtureRequest) -> int:
    """How often a plate stands in its batch: few plates are decoded another way than many."""
    return int(request.param)


def repeated(rows: Sequence[Sequence[float]], times: int) -> np.ndarray:
    return np.tile(np.asarray(rows), (times, 1))


@pytest.mark.parametrize(("path", "plate", "expected"), TABLE)
def test_hand_worked(path: list[int], plate: str, expected: list[float], times: int) -> None:
    decoded = decode(repeated([path], times), repeated([PROBS], times), LAST)
    assert decoded.plates == (plate,) * times
    assert decoded.char_confidences[0, : len(expected)] == pytest.approx(expected)
    assert not decoded.char_confidences[0, len(expected) :].any()
    product = float(np.prod(expected)) if expected else 0.0
    assert decoded.confidence[0] == pytest.approx(product)
    assert decoded.plate_ids[0, : len(plate)].tolist() == ["AB".index(c) for c in plate]
    assert (decoded.plate_ids[0, len(plate) :] == -1).all()


def test_blank_first(times: int) -> None:
    decoded = decode(repeated([[0, 1, 1, 0, 2]], times), repeated([PROBS], times), FIRST)
    assert decoded.plates == ("AB",) * times


def test_runs_do_not_cross_plates(times: int) -> None:
    ids = repeated([[2, 2, 2, 2, 0], [0, 2, 2, 2, 2]], times)
    assert decode(ids, np.full(ids.shape, 0.9), LAST).plates == ("A", "A") * times


def test_one_time_step(times: int) -> None:
    spec = PlateSpec(charset=Charset.from_text("AB"), time_steps=1, rows=1)
    decoded = decode(repeated([[1], [2]], times), repeated([[0.4], [0.9]], times), spec)
    assert decoded.plates == ("B", "") * times
    assert decoded.confidence == pytest.approx([0.4, 0.0] * times)


def test_what_is_no_probability_is_never_confident(times: int) -> None:
    probs = repeated([[0.9, np.nan, 0.9, 0.9, 0.9], [7.0, np.nan, 0.9, 0.9, -1.0]], times)
    decoded = decode(repeated([[0, 1, 2, 2, 2], [0, 0, 2, 1, 1]], times), probs, LAST)
    assert decoded.plates == ("AB", "AB") * times
    assert decoded.confidence[0] == 0.0
    assert decoded.char_confidences[1, :2] == pytest.approx([1.0, 0.9])


def test_long_text_keeps_every_character(times: int) -> None:
    spec = PlateSpec(charset=Charset.from_text("AB"), time_steps=24, rows=1)
    ids = repeated([[0, 1] * 12], times)
    decoded = decode(ids, np.full(ids.shape, 0.9, np.float32), spec)
    assert decoded.plates == ("AB" * 12,) * times
    assert decoded.confidence[0] == pytest.approx(0.9**24, rel=1e-5)
    assert decoded.char_confidences.shape == decoded.plate_ids.shape == (times, MAX_CHARACTERS)
    assert (decoded.plate_ids >= 0).all()


def test_empty_batch() -> None:
    decoded = decode(np.zeros((0, 5), np.int32), np.zeros((0, 5), np.float32), LAST)
    assert decoded.plates == ()
    assert decoded.confidence.shape == (0,)
    assert decoded.char_confidences.shape == decoded.plate_ids.shape == (0, MAX_CHARACTERS)


@pytest.mark.parametrize(
    ("ids", "probs", "words"),
    [
        (np.array([[0, 1, 2, 3, 0]]), PROBS[np.newaxis], "another charset"),
        (np.array([[0, 1, 2, -1, 0]]), PROBS[np.newaxis], "another charset"),
        (np.zeros((1, 4), int), np.zeros((1, 4)), r"\[N, 5\]"),
        (np.zeros((1, 5), int), np.zeros((1, 4)), r"\[N, 5\]"),
        (np.zeros((1, 5)), np.zeros((1, 5)), "integers"),
    ],
)
def test_refuses_foreign_output(ids: np.ndarray, probs: np.ndarray, words: str, times: int) -> None:
    with pytest.raises(SpecError, match=words):
        decode(repeated(ids, times), repeated(probs, times), LAST)


@given(st.lists(st.lists(st.integers(0, 36), min_size=48, max_size=48), min_size=1, max_size=8))
def test_agrees_with_the_textbook(paths: list[list[int]]) -> None:
    expected = tuple(
        "".join(
            DEFAULT_SPEC.charset.characters[key]
            for key, _ in itertools.groupby(path)
            if key != DEFAULT_SPEC.blank
        )
        for path in paths
    )
    ids = np.array(paths, np.int32)
    assert decode(ids, np.ones(ids.shape), DEFAULT_SPEC).plates == expected


@given(st.text(alphabet=DEFAULT_SPEC.charset.characters, max_size=16), st.integers(0, 36))
def test_encode_then_decode(text: str, blank: int) -> None:
    spec = PlateSpec(blank=blank)
    path = np.full(48, blank)
    path[: 2 * len(text) : 2] = spec.encode(text)
    assert decode(path[np.newaxis], np.ones((1, 48)), spec).plates == (text,)


def test_batch_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    runs = rng.integers(0, 74, (65, 16))
    ids = np.repeat(np.minimum(runs, 36), 3, axis=1)  # as networks answer: half of it blank
    probs = rng.random((65, 48), dtype=np.float32)
    probs[rng.random(probs.shape) < 0.02] = np.nan
    whole = decode(ids, probs, DEFAULT_SPEC)
    for row in range(65):
        single = decode(ids[row : row + 1], probs[row : row + 1], DEFAULT_SPEC)
        assert single.plates[0] == whole.plates[row]
        for name in ("confidence", "char_confidences", "plate_ids"):
            alone, among = getattr(single, name)[0], getattr(whole, name)[row]
            assert alone.dtype == among.dtype
            assert np.array_equal(alone, among), (row, name)
