"""Temperature that makes the plate confidence mean what it says (Guo et al. 2017).

The network's logits are divided by one number T before the softmax. T does not change a single
plate, only the confidences: it is fitted on validation plates so that "confidence c" is right
with frequency c, by the log-likelihood of "the plate is right".
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
_EPS = 1e-6  # one wrong plate with confidence 1 must not weigh without bound


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
    logits: npt.NDArray[np.float32], labels: Sequence[str], spec: PlateSpec
) -> TemperatureFit:
    """Find the temperature of least negative log-likelihood.

    Args:
        logits: FP32 [N, T, classes], not yet divided by any temperature.
        labels: N texts.
        spec: of the network.

    Raises:
        UnfittableError: when there is nothing to fit, or every plate is right or every one wrong:
            then the likelihood has no minimum.
    """
    ids, probs = best_path(logits, 1.0)
    plates = decode(ids, probs, spec).plates
    right = np.array([a == b for a, b in zip(plates, labels, strict=True)], dtype=bool)
    if not len(right) or right.all() or not right.any():
        raise UnfittableError(
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


Logits = tuple[npt.NDArray[np.float32], list[str]]


def _logits(reader: CheckpointReader, labelled: LabelledSet) -> Logits:
    pairs = zip(labelled.records, labelled.pictures, strict=True)
    kept = [(record.text, picture) for record, picture in pairs if picture is not None]
    parts = [
        reader.logits([picture for _, picture in kept[start : start + BATCH]])
        for start in range(0, len(kept), BATCH)
    ]
    return np.concatenate(parts), [text for text, _ in kept]


def _joined(parts: Sequence[Logits]) -> Logits:
    return np.concatenate([p[0] for p in parts]), [text for p in parts for text in p[1]]


def calibrate(
    reader: CheckpointReader, sets: Sequence[LabelledSet]
) -> tuple[TemperatureFit, list[SetCalibration]]:
    """Fit a checkpoint's temperature on all sets, and tell what it does for each of them.

    Raises:
        UnfittableError: see `fit_temperature`.
    """
    spec = reader.spec
    parts = [_logits(reader, labelled) for labelled in sets]
    fit = fit_temperature(*_joined(parts), spec)
    told = []
    for index, (labelled, (logits, labels)) in enumerate(zip(sets, parts, strict=True)):
        plates = decode(*best_path(logits, 1.0), spec).plates
        right = np.array([a == b for a, b in zip(plates, labels, strict=True)], dtype=bool)
        others = parts[:index] + parts[index + 1 :]
        held_out = None
        if others:
            with contextlib.suppress(UnfittableError):
                other = fit_temperature(*_joined(others), spec).temperature
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
