"""Statistics of right and wrong answers: intervals, calibration, coverage. Pure numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""

CALIBRATION_BINS = 15
ACCEPTED_ACCURACY = 0.995

Floats = npt.NDArray[np.float64]


def wilson_interval(right: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927); (0, 1) where nothing was measured.

    Args:
        right: successes, 0..n.
        n: trials.
        z: normal quantile; default 95 % two-sided.

    Returns:
        (low, high), each 0..1. Unlike the normal interval it stays sound near 0 and 1.
    """
    if not 0 <= right <= n:
        raise ValueError(f"{right} right of {n} is impossible")
    if n == 0:
        return 0.0, 1.0
    share = right / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Rounding would leave 1 - 1e-17 where every answer is right.
    low = 0.0 if right == 0 else (centre - half) / scale
    high = 1.0 if right == n else (centre + half) / scale
    return low, high


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability diagram: n answers, their mean confidence and accuracy, 0..1."""

    n: int
    confidence: float
    accuracy: float


def _paired(confidences: npt.ArrayLike, right: npt.ArrayLike) -> tuple[Floats, Floats]:
    trust = np.asarray(confidences, dtype=np.float64)
    truth = np.asarray(right, dtype=np.float64)
    if trust.ndim != 1 or trust.shape != truth.shape:
        raise ValueError(f"confidences {trust.shape} and answers {truth.shape} must be [N] both")
    if trust.size and not (np.isfinite(trust).all() and trust.min() >= 0 and trust.max() <= 1):
        raise ValueError("confidences must lie within 0..1")
    return trust, truth


def reliability(
    confidences: npt.ArrayLike, right: npt.ArrayLike, bins: int = CALIBRATION_BINS
) -> list[Bin]:
    """Bins of equal count, from the least to the most confident answers.

    Args:
        confidences: [N] in 0..1.
        right: [N] booleans.
        bins: at most so many; fewer where N is smaller.
    """
    trust, truth = _paired(confidences, right)
    order = np.argsort(trust, kind="stable")
    parts = np.array_split(order, min(bins, len(order))) if len(order) else []
    return [Bin(len(p), float(trust[p].mean()), float(truth[p].mean())) for p in parts]


def calibration_error(
    confidences: npt.ArrayLike, right: npt.ArrayLike, bins: int = CALIBRATION_BINS
) -> float:
    """Expected calibration error over bins of equal count: mean of |confidence - accuracy|.

    Naeini et al. 2015, with equal-count bins (Nguyen & O'Connor 2015): most plates are read with
    a confidence near 1, where bins of equal width would hold nearly all of them.
    """
    made = reliability(confidences, right, bins)
    total = sum(b.n for b in made)
    return sum(b.n * abs(b.confidence - b.accuracy) for b in made) / total if total else 0.0


def calibration_floor(
    confidences: npt.ArrayLike, bins: int = CALIBRATION_BINS, draws: int = 400, seed: int = 1
) -> float:
    """Calibration error that a perfectly calibrated reader shows on so few plates, on average.

    Small bins deviate by chance; an error near this floor cannot be told from none. Found by
    drawing right and wrong from the confidences themselves.
    """
    trust, _ = _paired(confidences, np.zeros(np.shape(confidences)))
    rng = np.random.default_rng(seed)
    found = [calibration_error(trust, rng.random(len(trust)) < trust, bins) for _ in range(draws)]
    return float(np.mean(found)) if trust.size else 0.0


@dataclass(frozen=True)
class Coverage:
    """What can be accepted unseen.

    Attributes:
        share: of all plates, 0..1, with confidence >= threshold.
        threshold: 0..1; 1.0 with share 0 where no threshold reaches the accuracy.
        accuracy: of the accepted plates, 0..1.
    """

    share: float
    threshold: float
    accuracy: float


def coverage_curve(
    confidences: npt.ArrayLike, right: npt.ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """Coverage against accuracy for every threshold that the answers allow.

    Returns:
        (share, accuracy, threshold), each [K], from the highest threshold to the lowest. Answers
        of equal confidence are accepted together, as a threshold would.
    """
    trust, truth = _paired(confidences, right)
    order = np.argsort(-trust, kind="stable")
    trust, truth = trust[order], truth[order]
    last = np.flatnonzero(np.append(trust[1:] != trust[:-1], True)) if len(trust) else order
    count = last + 1.0
    return count / max(len(trust), 1), np.cumsum(truth)[last] / count, trust[last]


def coverage_at(
    confidences: npt.ArrayLike, right: npt.ArrayLike, accuracy: float = ACCEPTED_ACCURACY
) -> Coverage:
    """Largest share of plates that can be accepted so that `accuracy` of those are right."""
    share, reached, threshold = coverage_curve(confidences, right)
    good = np.flatnonzero(reached >= accuracy)
    if not good.size:
        return Coverage(0.0, 1.0, 1.0)
    at = good[-1]
    return Coverage(float(share[at]), float(threshold[at]), float(reached[at]))
