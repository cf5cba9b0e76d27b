"""The temperature fit finds the temperature that spoilt calibrated logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from lprnet.charset import Charset
from lprnet.ctc import decode
from lprnet.plate_spec import PlateSpec
from training.evaluation.calibration import UnfittableError, confidences_at, fit_temperature
from training.evaluation.readers import best_path

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


@pytest.mark.parametrize("spoilt", [0.5, 1.0, 3.0])
def test_fit_undoes_the_scale(spoilt: float) -> None:
    logits, labels = calibrated(6000, seed=5)
    fit = fit_temperature(logits * np.float32(spoilt), labels, SPEC)
    assert fit.temperature == pytest.approx(spoilt, rel=0.1)
    assert fit.error_after < 0.03
    assert fit.nll_after <= fit.nll_before + 1e-9
    assert fit.n == 6000
    if spoilt == 3.0:
        assert fit.error_before > 0.08


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
        fit_temperature(logits, [label] * 20, SPEC)
    with pytest.raises(UnfittableError, match="0 of 0"):
        fit_temperature(logits[:0], [], SPEC)
