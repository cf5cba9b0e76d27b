"""Statistics against examples that were worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.alignment import align, confusions, edit_distance
from training.evaluation.statistics import (
    calibration_error,
    calibration_floor,
    coverage_at,
    coverage_curve,
    reliability,
    wilson_interval,
)


def test_wilson_by_hand() -> None:
    # 9 of 10, z = 1.96: centre (0.9 + 3.8416 / 20) / 1.38416 = 0.78898,
    # half width 1.96 * sqrt(0.09 / 10 + 3.8416 / 400) / 1.38416 = 0.19314
    low, high = wilson_interval(9, 10, z=1.96)
    assert low == pytest.approx(0.78898 - 0.19314, abs=1e-4)
    assert high == pytest.approx(0.78898 + 0.19314, abs=1e-4)


def test_wilson_of_the_reference_figure() -> None:
    low, high = wilson_interval(4846, 4960)
    assert (round(low, 4), round(high, 4)) == (0.9725, 0.9808)


def test_wilson_at_the_ends() -> None:
    # Nothing right: 0 .. z^2 / (n + z^2)
    assert wilson_interval(0, 10, z=2.0) == (0.0, pytest.approx(4 / 14))
    assert wilson_interval(10, 10, z=2.0) == (pytest.approx(10 / 14), 1.0)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="impossible"):
        wilson_interval(11, 10)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share(counts: tuple[int, int]) -> None:
    right, n = counts
    low, high = wilson_interval(right, n)
    assert 0 <= low <= right / n <= high <= 1


def test_calibration_error_by_hand() -> None:
    # two bins: (0.2, 0.4) mean 0.3, half right -> 0.2; (0.6, 0.8) mean 0.7, all right -> 0.3
    confidences = [0.8, 0.2, 0.6, 0.4]
    right = [True, False, True, True]
    assert calibration_error(confidences, right, bins=2) == pytest.approx(0.25)
    bins = reliability(confidences, right, bins=2)
    assert [(b.n, round(b.confidence, 6), b.accuracy) for b in bins] == [(2, 0.3, 0.5), (2, 0.7, 1)]


def test_calibration_bins_weigh_by_count() -> None:
    # bins of 2 and 1: |0.5 - 0| * 2 / 3 + |1 - 1| / 3
    assert calibration_error([0.5, 0.5, 1.0], [0, 0, 1], bins=2) == pytest.approx(1 / 3)
    assert len(reliability([0.1, 0.2], [0, 1], bins=15)) == 2
    assert calibration_error([], []) == 0


def test_calibrated_answers_have_a_small_error_and_a_matching_floor() -> None:
    rng = np.random.default_rng(3)
    confidences = rng.uniform(0, 1, 20_000)
    right = rng.random(20_000) < confidences
    assert calibration_error(confidences, right) < 0.02
    few = confidences[:200]
    errors = [calibration_error(few, rng.random(200) < few) for _ in range(300)]
    assert calibration_floor(few) == pytest.approx(np.mean(errors), rel=0.05)
    assert calibration_floor([1.0] * 50) == 0


@pytest.mark.parametrize("bad", [[1.2], [-0.1], [float("nan")], [[0.5]]])
def test_confidences_must_be_probabilities(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="confidences"):
        calibration_error(bad, [True])


def test_coverage_by_hand() -> None:
    confidences = [0.8, 0.9, 0.7, 0.8]
    right = [True, True, True, False]
    share, accuracy, threshold = coverage_curve(confidences, right)
    # 0.8 is one threshold for two plates: it cannot accept only the right one of them
    assert threshold.tolist() == [0.9, 0.8, 0.7]
    assert share.tolist() == [0.25, 0.75, 1.0]
    assert accuracy.tolist() == pytest.approx([1, 2 / 3, 3 / 4])
    best = coverage_at(confidences, right, 0.995)
    assert (best.share, best.threshold, best.accuracy) == (0.25, 0.9, 1.0)
    assert coverage_at(confidences, right, 0.75).share == 1.0


def test_coverage_where_nothing_can_be_accepted() -> None:
    none = coverage_at([0.9, 0.8], [False, True])
    assert (none.share, none.threshold) == (0.0, 1.0)
    assert coverage_at([], []).share == 0.0


@pytest.mark.parametrize(
    ("label", "plate", "distance"),
    [("", "", 0), ("AB12", "AB12", 0), ("AB12", "", 4), ("", "AB", 2), ("AB12", "A812", 1),
     ("AB12", "AB1", 1), ("AB12", "XAB12", 1), ("KITTEN", "SITTING", 3), ("AB", "BA", 2)],
)  # fmt: skip
def test_edit_distance_by_hand(label: str, plate: str, distance: int) -> None:
    assert edit_distance(label, plate) == distance
    assert edit_distance(plate, label) == distance


@given(st.text("AB01", max_size=7), st.text("AB01", max_size=7))
def test_alignment_spells_both_texts_at_the_distance(label: str, plate: str) -> None:
    pairs = align(label, plate)
    assert "".join(a for a, _ in pairs) == label
    assert "".join(b for _, b in pairs) == plate
    assert sum(a != b for a, b in pairs) == edit_distance(label, plate)
    assert ("", "") not in pairs


def test_confusions_by_hand() -> None:
    found = confusions([("AB0", "AB0"), ("AO1", "A01"), ("O1", "01"), ("AB", "A"), ("A", "AX")])
    assert found == {("O", "0"): 2, ("B", ""): 1, ("", "X"): 1}
