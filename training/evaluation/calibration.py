"""Temperature that makes the plate confidence mean what it says (Guo et al. 2017).

The network's logits are divided by one number T before the softmax. T does not change a single
plate, only the confidences: it is fitted on validation plates so that "confidence c" is right
with frequency c, by the log-likelihood of "the plate is right".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lprnet.ctc import decode
from lprnet.errors import LprnetError
from lprnet.plate_spec import PlateSpec
from training.evaluation.readers import best_path
from training.evaluation.statistics import calibration_error

LOWEST, HIGHEST = 0.2, 10.0
_EPS = 1e-6  # one wrong plate with confidence 1 must not weigh without bound


@dataclass(frozen=True)
class TemperatureFit:
    """Result of a fit.

    Attributes:
        temperature: what the logits are to be divided by; above 1 = the network was too sure.
        n: plates that it was fitted on.
        nll_before, nll_after: mean negative log-likelihood of "the plate is right", at T = 1
            and at the fitted one.
        error_before, error_after: calibration error (15 bins of equal count), 0..1.
    """

    temperature: float
    n: int
    nll_before: float
    nll_after: float
    error_before: float
    error_after: float


def confidences_at(
    logits: npt.NDArray[np.float32], spec: PlateSpec, temperature: float
) -> npt.NDArray[np.float64]:
    """Plate confidences, [N] 0..1, of logits [N, T, classes] at a temperature."""
    ids, probs = best_path(logits, temperature)
    return decode(ids, probs, spec).confidence.astype(np.float64)


def negative_log_likelihood(
    confidences: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]
) -> float:
    """Mean of -log(c) over right plates and -log(1 - c) over wrong ones, c clipped to 1e-6."""
    c = np.clip(confidences, _EPS, 1 - _EPS)
    return float(-np.where(right, np.log(c), np.log1p(-c)).mean())


def fit_temperature(
    logits: npt.NDArray[np.float32], labels: Sequence[str], spec: PlateSpec
) -> TemperatureFit:
    """Find the temperature of least negative log-likelihood.

    Args:
        logits: FP32 [N, T, classes], not yet divided by any temperature.
        labels: N texts.
        spec: of the network.

    Raises:
        LprnetError: when there is nothing to fit, or every plate is right or every one wrong:
            then the likelihood has no minimum.
    """
    ids, probs = best_path(logits, 1.0)
    plates = decode(ids, probs, spec).plates
    right = np.array([a == b for a, b in zip(plates, labels, strict=True)], dtype=bool)
    if not len(right) or right.all() or not right.any():
        raise LprnetError(
            f"a temperature needs right and wrong plates, but {int(right.sum())} of {len(right)} "
            "are right: give more or harder sets"
        )

    def loss(log_temperature: float) -> float:
        confidences = confidences_at(logits, spec, float(np.exp(log_temperature)))
        return negative_log_likelihood(confidences, right)

    # A coarse scan first: the loss need not have a single valley.
    grid = np.linspace(np.log(LOWEST), np.log(HIGHEST), 41)
    best = int(np.argmin([loss(x) for x in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    temperature = float(np.exp(_golden(loss, low, high)))
    before, after = confidences_at(logits, spec, 1.0), confidences_at(logits, spec, temperature)
    return TemperatureFit(
        temperature=temperature,
        n=len(right),
        nll_before=negative_log_likelihood(before, right),
        nll_after=negative_log_likelihood(after, right),
        error_before=calibration_error(before, right),
        error_after=calibration_error(after, right),
    )


def _golden(loss: Callable[[float], float], low: float, high: float, steps: int = 30) -> float:
    """Minimum of a function with one valley in low..high (golden-section search)."""
    ratio = (5**0.5 - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(steps):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return (low + high) / 2
