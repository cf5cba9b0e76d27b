"""Graded distortions of crops and how readers hold up under them.

Nine distortions of five levels each, level 0 being the crop as it is. Every distortion works on
the crop at its own size, with lengths as shares of the plate's height, so that a small crop and
a large one suffer alike. The same crop, distortion and level always give the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from tqdm import tqdm

from lprnet.image import UInt8Array
from training.evaluation.measure import BATCH, Measurement
from training.evaluation.pictures import LabelledSet, Picture
from training.evaluation.readers import Answers, Reader
from training.evaluation.statistics import wilson_interval

LEVELS = 5


@dataclass(frozen=True)
class Distortion:
    """One way to spoil a crop.

    Attributes:
        name: as figures call it.
        unit: what the amounts are.
        amounts: one for each of the levels 1..5, ever worse.
        apply: (pixels UINT8 [H, W, 3] RGB, amount, generator) -> UINT8 [H', W', 3].
    """

    name: str
    unit: str
    amounts: tuple[float, ...]
    apply: Callable[[UInt8Array, float, np.random.Generator], UInt8Array]


def _blur(pixels: UInt8Array, amount: float, _: np.random.Generator) -> UInt8Array:
    sigma = amount * pixels.shape[0]
    return _bytes(cv2.GaussianBlur(pixels, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))


def _motion(pixels: UInt8Array, amount: float, _: np.random.Generator) -> UInt8Array:
    length = amount * pixels.shape[0]
    reach = int(np.ceil(length / 2))
    # Whole samples in the middle, the fraction at both ends: length grows without steps.
    offsets = np.abs(np.arange(-reach, reach + 1))
    kernel = np.clip(length / 2 + 0.5 - offsets, 0, 1)[np.newaxis]
    return _bytes(cv2.filter2D(pixels, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE))


def _rotate(pixels: UInt8Array, amount: float, rng: np.random.Generator) -> UInt8Array:
    height, width = pixels.shape[:2]
    angle = amount if rng.random() < 0.5 else -amount
    centre = ((width - 1) / 2, (height - 1) / 2)
    turn = np.asarray(cv2.getRotationMatrix2D(centre, angle, 1.0), dtype=np.float64)
    # The crop grows so that no character leaves it, as a detector's box would.
    cosine, sine = abs(turn[0, 0]), abs(turn[0, 1])
    size = (round(width * cosine + height * sine), round(width * sine + height * cosine))
    turn[0, 2] += (size[0] - width) / 2
    turn[1, 2] += (size[1] - height) / 2
    return _bytes(cv2.warpAffine(pixels, turn, size, borderMode=cv2.BORDER_REPLICATE))


def _dark(pixels: UInt8Array, amount: float, rng: np.random.Generator) -> UInt8Array:
    # Light goes, the sensor's own noise stays: 2 grey levels.
    exposed = pixels.astype(np.float32) * amount + rng.normal(0, 2, pixels.shape)
    return _bytes(exposed)


def _noise(pixels: UInt8Array, amount: float, rng: np.random.Generator) -> UInt8Array:
    # Drawn at 48 px of height, so that resizing does not average it away on large crops.
    height, width = pixels.shape[:2]
    columns = max(1, round(width * 48 / height))
    grain = rng.normal(0, amount, (48, columns, 3)).astype(np.float32)
    grown = cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)
    return _bytes(pixels.astype(np.float32) + grown)


def _jpeg(pixels: UInt8Array, amount: float, _: np.random.Generator) -> UInt8Array:
    # Cameras compress what they see: a plate of 64 px height, not an enlarged one.
    height, width = pixels.shape[:2]
    small = pixels
    if height > 64:
        small = _bytes(
            cv2.resize(
                pixels, (max(1, round(width * 64 / height)), 64), interpolation=cv2.INTER_AREA
            )
        )
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(amount)]
    good, data = cv2.imencode(".jpg", np.ascontiguousarray(small[:, :, ::-1]), quality)
    assert good
    return np.ascontiguousarray(_bytes(cv2.imdecode(data, cv2.IMREAD_COLOR))[:, :, ::-1])


def _resolution(pixels: UInt8Array, amount: float, _: np.random.Generator) -> UInt8Array:
    height, width = pixels.shape[:2]
    rows = min(height, int(amount))
    size = (max(1, round(width * rows / height)), rows)
    return _bytes(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def _tight(pixels: UInt8Array, amount: float, _: np.random.Generator) -> UInt8Array:
    height, width = pixels.shape[:2]
    across, down = round(width * amount), round(height * amount)
    return np.ascontiguousarray(pixels[down : height - down, across : width - across])


def _loose(pixels: UInt8Array, amount: float, rng: np.random.Generator) -> UInt8Array:
    # Bodywork around the plate: a blurred, darker mirror image of the crop, off centre.
    height, width = pixels.shape[:2]
    left, top = rng.uniform(0.3, 0.7, 2)
    across, down = 2 * amount * width, 2 * amount * height
    x, y = round(across * left), round(down * top)
    size = (width + round(across), height + round(down))
    around = cv2.resize(pixels[::-1, ::-1], size, interpolation=cv2.INTER_LINEAR)
    around = cv2.GaussianBlur(around, (0, 0), 0.25 * height) * 0.6
    wide = _bytes(around)
    wide[y : y + height, x : x + width] = pixels
    return wide


def _bytes(pixels: object) -> UInt8Array:
    made: UInt8Array = np.clip(np.rint(np.asarray(pixels)), 0, 255).astype(np.uint8)
    return made


DISTORTIONS = (
    Distortion("blur", "sigma / height", (0.01, 0.02, 0.03, 0.04, 0.055), _blur),
    Distortion("motion blur", "length / height", (0.06, 0.12, 0.18, 0.24, 0.3), _motion),
    Distortion("rotation", "degrees", (3, 6, 9, 12, 15), _rotate),
    Distortion("darkness", "share of light", (0.3, 0.15, 0.09, 0.06, 0.04), _dark),
    Distortion("noise", "sigma in grey levels", (12, 24, 36, 48, 60), _noise),
    Distortion("JPEG", "quality at 64 px", (30, 18, 12, 8, 5), _jpeg),
    Distortion("low resolution", "height in px", (32, 24, 18, 14, 11), _resolution),
    Distortion("tight crop", "cut off each side", (0.01, 0.02, 0.03, 0.045, 0.06), _tight),
    Distortion("loose crop", "margin each side", (0.05, 0.1, 0.2, 0.3, 0.4), _loose),
)


def distort(picture: Picture, distortion: Distortion, level: int, seed: int) -> Picture:
    """A distorted copy.

    Args:
        level: 0 (as it is) to 5 (worst).
        seed: of the crop, e.g. its position in the set.
    """
    if level == 0:
        return picture
    rng = np.random.default_rng(seed)  # the same draw at every level: only the amount grows
    return Picture(distortion.apply(picture.pixels, distortion.amounts[level - 1], rng))


@dataclass(frozen=True)
class Curve:
    """Accuracy of one reader under one distortion over all sets.

    Attributes:
        reader, distortion: names.
        right: plates read exactly at the levels 0..5.
        n: plates.
    """

    reader: str
    distortion: str
    right: tuple[int, ...]
    n: int

    @property
    def shares(self) -> tuple[float, ...]:
        """Exact match at the levels 0..5, 0..1."""
        return tuple(r / self.n for r in self.right)

    @property
    def mean(self) -> float:
        """Mean exact match over the levels 1..5, 0..1."""
        return sum(self.shares[1:]) / LEVELS

    @property
    def intervals(self) -> tuple[tuple[float, float], ...]:
        """95 % Wilson intervals at the levels 0..5."""
        return tuple(wilson_interval(r, self.n) for r in self.right)


def mean_accuracy(curves: Sequence[Curve], reader: str) -> float:
    """Mean over all distortions and the levels 1..5 of a reader, 0..1."""
    means = [curve.mean for curve in curves if curve.reader == reader]
    return sum(means) / len(means)


def subset(sets: Sequence[LabelledSet], crops: int, seed: int = 1) -> list[list[int]]:
    """Positions of the crops that are distorted, ascending, for each set.

    Drawn without replacement over all sets together, so that a set keeps its share; the same
    sets, number and seed always give the same crops.

    Args:
        crops: how many at most; 0 = all.
    """
    sizes = [len(labelled.records) for labelled in sets]
    total = sum(sizes)
    kept = np.arange(total)
    if 0 < crops < total:
        kept = np.sort(np.random.default_rng(seed).choice(total, crops, replace=False))
    ends = np.cumsum(sizes)
    return [
        (kept[(kept >= end - size) & (kept < end)] - (end - size)).tolist()
        for size, end in zip(sizes, ends, strict=True)
    ]


def measure_robustness(
    readers: Sequence[Reader],
    measured: Sequence[Measurement],
    sets: Sequence[LabelledSet],
    distortions: Sequence[Distortion] = DISTORTIONS,
    *,
    crops: int = 0,
) -> list[Curve]:
    """Read every set under every distortion and level with every reader.

    Args:
        measured: the readers on the undistorted sets, which are the level 0: set by set in the
            order of `sets`.
        crops: distort a fixed draw of so many crops over all sets (`subset`); 0 = all of them.
    """
    chosen = subset(sets, crops)
    plates = [
        (index, labelled.records[index], labelled.pictures[index])
        for labelled, positions in zip(sets, chosen, strict=True)
        for index in positions
    ]
    n = len(plates)
    clean = {}
    for reader in readers:
        mine = [m for m in measured if m.reader == reader.name]
        pairs = zip(mine, chosen, strict=True)
        clean[reader.name] = sum(int(m.right[positions].sum()) for m, positions in pairs)
    right = {(r.name, d.name): [clean[r.name]] + [0] * LEVELS for r in readers for d in distortions}
    total = len(distortions) * LEVELS * n
    with tqdm(total=total, desc="robustness", unit="crop", disable=None, leave=False) as bar:
        for distortion in distortions:
            for level in range(1, LEVELS + 1):
                for start in range(0, n, BATCH):
                    part = plates[start : start + BATCH]
                    # An unreadable picture is wrong at every level, as it is at level 0.
                    kept = [(i, r, p) for i, r, p in part if p is not None]
                    spoilt = [distort(p, distortion, level, i) for i, _, p in kept]
                    for reader in readers if spoilt else ():
                        answers: Answers = reader.read(spoilt)
                        hits = sum(
                            r.text == a for (_, r, _), a in zip(kept, answers.plates, strict=True)
                        )
                        right[reader.name, distortion.name][level] += hits
                    bar.update(len(part))
    return [Curve(r, d, tuple(counts), n) for (r, d), counts in right.items()]
