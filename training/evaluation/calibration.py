"""Temperature that makes the plate confidence mean what it says (Guo et al. 2017).

The network's logits are divided by one number T before the softmax. T does not change a single
plate, only the confidences: it is fitted on validation plates so that "confidence c" is right
with frequency c. Two criteria:

- `LIKELIHOOD`, of "the plate is right". Smooth, and right where the labels are. A sure answer to a
  wrong label weighs more than a hundred right ones, so that a few of them make T too large for all.
- `ERROR`: the calibration error of the set where it is largest. For sets whose labels are partly
  wrong: such an answer weighs like any other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lprnet.ctc import decode
from lprnet.errors import LprnetError
from lprnet.plate_spec import PlateSpec
from training.evaluation.measure import BATCH
from training.evaluation.pictures import LabelledSet
from training.evaluation.readers import CheckpointReader, best_path
from training.evaluation.statistics import calibration_error

LOWEST, HIGHEST = 0.2, 10.0
LIKELIHOOD, ERROR = CRITERIA = ("likelihood", "error")
ERROR_LOWEST, ERROR_HIGHEST, ERROR_STEPS = 0.5, 3.0, 180
"""Temperatures that `ERROR` tries, 1 % apart: it has many small valleys, which a search would not
pass. Ever smaller ones would make every confidence 1 and the error that of a constant."""
_EPS = 1e-6  # one wrong plate with confidence 1 must not weigh without bound


Logits = tuple[npt.NDArray[np.float32], Sequence[str]]
"""FP32 [N, T, classes] before any temperature, and the N texts of the labels."""


class UnfittableError(LprnetError):
    """Answers from which no temperature can be told."""


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
    sets: Sequence[Logits], spec: PlateSpec, criterion: str = LIKELIHOOD
) -> TemperatureFit:
    """Find the best temperature of some sets.

    Args:
        sets: of each FP32 [N, T, classes], not yet divided by any temperature, and N texts.
        spec: of the network.
        criterion: one of `CRITERIA`.

    Raises:
        UnfittableError: when there is nothing to fit, or every plate is right or every one wrong:
            the best temperature would then be 0 or infinite.
    """
    right = [_right(part, spec) for part in sets]
    joined = np.concatenate(right) if right else np.zeros(0, bool)
    if not len(joined) or joined.all() or not joined.any():
        raise UnfittableError(
            f"a temperature needs right and wrong plates, but {int(joined.sum())} of {len(joined)} "
            "are right: give more or harder sets"
        )

    def confidences(temperature: float) -> npt.NDArray[np.float64]:
        return np.concatenate([confidences_at(part[0], spec, temperature) for part in sets])

    def likelihood_loss(log_temperature: float) -> float:
        return negative_log_likelihood(confidences(float(np.exp(log_temperature))), joined)

    def worst_error(log_temperature: float) -> float:
        temperature = float(np.exp(log_temperature))
        return max(
            calibration_error(confidences_at(part[0], spec, temperature), truth)
            for part, truth in zip(sets, right, strict=True)
        )

    if criterion == ERROR:
        tried = np.linspace(np.log(ERROR_LOWEST), np.log(ERROR_HIGHEST), ERROR_STEPS)
        temperature = float(np.exp(tried[int(np.argmin([worst_error(x) for x in tried]))]))
    else:
        # A coarse scan first: the loss need not have a single valley.
        grid = np.linspace(np.log(LOWEST), np.log(HIGHEST), 41)
        best = int(np.argmin([likelihood_loss(x) for x in grid]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        temperature = float(np.exp(_golden(likelihood_loss, low, high)))
    before, after = confidences(1.0), confidences(temperature)
    return TemperatureFit(
        temperature=temperature,
        n=len(joined),
        nll_before=negative_log_likelihood(before, joined),
        nll_after=negative_log_likelihood(after, joined),
        error_before=calibration_error(before, joined),
        error_after=calibration_error(after, joined),
    )


def _right(part: Logits, spec: PlateSpec) -> npt.NDArray[np.bool_]:
    logits, labels = part
    plates = decode(*best_path(logits, 1.0), spec).plates
    return np.array([a == b for a, b in zip(plates, labels, strict=True)], dtype=bool)


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


@dataclass(frozen=True)
class SetCalibration:
    """One set before and after.

    Attributes:
        name, n: the set and its plates.
        error_before: calibration error at T = 1, 0..1.
        error_after: at the temperature that was fitted on all sets, this one among them.
        error_held_out: at a temperature fitted on the other sets only; None where that cannot be
            fitted. This is what an unseen set may expect.
    """

    name: str
    n: int
    error_before: float
    error_after: float
    error_held_out: float | None


def _logits(reader: CheckpointReader, labelled: LabelledSet) -> Logits:
    pairs = zip(labelled.records, labelled.pictures, strict=True)
    kept = [(record.text, picture) for record, picture in pairs if picture is not None]
    parts = [
        reader.logits([picture for _, picture in kept[start : start + BATCH]])
        for start in range(0, len(kept), BATCH)
    ]
    return np.concatenate(parts), [text for text, _ in kept]


def calibrate(
    reader: CheckpointReader, sets: Sequence[LabelledSet], criterion: str = LIKELIHOOD
) -> tuple[TemperatureFit, list[SetCalibration]]:
    """Fit a checkpoint's temperature on all sets, and tell what it does for each of them.

    Raises:
        UnfittableError: see `fit_temperature`.
    """
    spec = reader.spec
    parts = [_logits(reader, labelled) for labelled in sets]
    fit = fit_temperature(parts, spec, criterion)
    told = []
    for index, (labelled, part) in enumerate(zip(sets, parts, strict=True)):
        logits, labels = part
        right = _right(part, spec)
        others = parts[:index] + parts[index + 1 :]
        held_out = None
        if others:
            with contextlib.suppress(UnfittableError):
                other = fit_temperature(others, spec, criterion).temperature
                held_out = calibration_error(confidences_at(logits, spec, other), right)
        told.append(
            SetCalibration(
                labelled.name,
                len(labels),
                calibration_error(confidences_at(logits, spec, 1.0), right),
                calibration_error(confidences_at(logits, spec, fit.temperature), right),
                held_out,
            )
        )
    return fit, told
