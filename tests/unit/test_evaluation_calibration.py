"""The temperature fit finds the temperature that spoilt calibrated logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from lprnet.charset import Charset
from lprnet.ctc import decode
from lprnet.plate_spec import PlateSpec
from training.evaluation.calibration import (
    ERROR,
    LIKELIHOOD,
    UnfittableError,
    confidences_at,
    fit_temperature,
)
from training.evaluation.readers import best_path
from training.evaluation.statistics import calibration_error

SPEC = PlateSpec(Charset.from_text("AB"), time_steps=6, rows=1)


def calibrated(n: int, seed: int) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Plates of one character: p(A) = sigmoid(x), and A is the label with just that frequency."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.1, 4, n)
    logits = np.zeros((n, SPEC.time_steps, SPEC.classes), np.float32)
    logits[:, :, SPEC.blank] = 200  # certain blanks, whatever the temperature
    logits[:, 2] = [0, 0, -400]
    logits[:, 2, 0] = x
    labels = np.where(rng.random(n) < 1 / (1 + np.exp(-x)), "A", "B")
    return logits, labels.tolist()


def expected(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """How often such plates are right."""
    return 1 / (1 + np.exp(-logits[:, 2, 0].astype(np.float64)))


@pytest.mark.parametrize(
    ("spoilt", "criterion"), [*((s, LIKELIHOOD) for s in (0.5, 1.0, 3.0)), (0.6, ERROR), (2, ERROR)]
)
def test_fit_undoes_the_scale(spoilt: float, criterion: str) -> None:
    logits, labels = calibrated(6000, seed=5)
    fit = fit_temperature([(logits * np.float32(spoilt), labels)], SPEC, criterion)
    assert fit.temperature == pytest.approx(spoilt, rel=0.1)
    assert fit.error_after < 0.03
    if criterion == LIKELIHOOD:
        assert fit.nll_after <= fit.nll_before + 1e-9
    assert fit.n == 6000
    if spoilt == 3.0:
        assert fit.error_before > 0.08


def test_a_few_wrong_labels_spoil_the_likelihood_only() -> None:
    logits, labels = calibrated(3000, seed=9)
    logits = logits * 2  # so sure that few mistakes are left to be told from wrong labels
    labels = np.where(np.random.default_rng(3).random(3000) < expected(logits), "A", "B")
    swap = {"A": "B", "B": "A"}
    wrong = [swap[t] if i % 100 == 0 and x > 7 else t
             for i, (t, x) in enumerate(zip(labels, logits[:, 2, 0], strict=True))]  # fmt: skip
    likelihood = fit_temperature([(logits, wrong)], SPEC, LIKELIHOOD).temperature
    error = fit_temperature([(logits, wrong)], SPEC, ERROR).temperature
    assert abs(np.log(error)) < abs(np.log(likelihood))


def test_the_error_is_that_of_the_worst_set() -> None:
    good, labels = calibrated(2000, seed=5)
    bad, theirs = calibrated(2000, seed=6)
    sets = [(good, labels), (bad * np.float32(2), theirs)]
    fitted = fit_temperature(sets, SPEC, ERROR).temperature

    def worst(temperature: float) -> float:
        return max(
            calibration_error(confidences_at(x, SPEC, temperature), np.array(y) == "A")
            for x, y in sets
        )

    assert 1 < fitted < 2
    assert worst(fitted) <= min(worst(t) for t in (1.0, 1.2, 1.4, 1.7, 2.0)) + 1e-9


def test_temperature_changes_no_plate() -> None:
    logits, _ = calibrated(200, seed=6)
    plates = {decode(*best_path(logits, t), SPEC).plates for t in (0.3, 1.0, 8.0)}
    assert len(plates) == 1
    sure, unsure = confidences_at(logits, SPEC, 0.5), confidences_at(logits, SPEC, 2.0)
    assert (sure > unsure).all()


def test_best_path_is_a_softmax() -> None:
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 30, (3, 6, 4)).astype(np.float32)
    scaled = logits.astype(np.float64) / 1.7
    softmax = np.exp(scaled) / np.exp(scaled).sum(-1, keepdims=True)
    ids, probs = best_path(logits, 1.7)
    np.testing.assert_array_equal(ids, softmax.argmax(-1))
    np.testing.assert_allclose(probs, softmax.max(-1), rtol=1e-5)
    assert (ids.dtype, probs.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize("label", ["A", "B"])
def test_fit_needs_right_and_wrong_plates(label: str) -> None:
    logits, _ = calibrated(20, seed=8)
    with pytest.raises(UnfittableError, match="of 20 are right"):
        fit_temperature([(logits, [label] * 20)], SPEC)
    with pytest.raises(UnfittableError, match="0 of 0"):
        fit_temperature([(logits[:0], [])], SPEC)
    with pytest.raises(UnfittableError, match="0 of 0"):
        fit_temperature([], SPEC)
