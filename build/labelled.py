"""Labelled crops for calibration, gates and parity, and exact match on them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from runtimes import Answer, Runner, UInt8Array
from tqdm import tqdm

from lprnet.ctc import decode
from lprnet.errors import ImageError
from lprnet.image import load_crop
from lprnet.model_file import ModelError
from lprnet.plate_spec import PlateSpec
from training.data.records import DatasetError, read_set

BATCH = 32
HELD_OUT = 5
"""One picture in so many of a set is kept out of calibration."""


@dataclass(frozen=True)
class LabelledCrops:
    """Pictures of one labelled set as the network sees them.

    Attributes:
        name: of the set, e.g. "val/eu".
        crops: UINT8 [n, 3, 48, 96] RGB.
        texts: n labels, upper case without separators.
        digests: n SHA-256 of the picture files, to tell sets apart that share pictures.
    """

    name: str
    crops: UInt8Array
    texts: tuple[str, ...]
    digests: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def pick(self, indices: npt.NDArray[np.intp]) -> LabelledCrops:
        """The crops at `indices`."""
        return LabelledCrops(
            self.name,
            self.crops[indices],
            tuple(self.texts[i] for i in indices),
            tuple(self.digests[i] for i in indices),
        )


def load_set(root: Path, spec: PlateSpec, limit: int | None = None, seed: int = 0) -> LabelledCrops:
    """Read a labelled set.

    Args:
        limit: at most so many pictures, drawn at random but the same for the same seed.

    Raises:
        DatasetError: when the folder is no labelled set or no picture in it can be read. One that
            cannot is left out, which is said on stderr: it tells nothing about a model.
    """
    records = read_set(root)
    if limit is not None and len(records) > limit:
        chosen = np.random.default_rng(seed).choice(len(records), limit, replace=False)
        records = [records[i] for i in np.sort(chosen)]
    crops = np.empty((len(records), *spec.image_shape), np.uint8)
    texts: list[str] = []
    digests: list[str] = []
    for record in tqdm(records, desc=root.name, disable=not sys.stderr.isatty()):
        try:
            data = record.path.read_bytes()
            crops[len(texts)] = load_crop(data, spec.height_px, spec.width_px)
        except (OSError, ImageError) as error:
            tqdm.write(f"note: left out {record.path}: {error}", file=sys.stderr)
            continue
        texts.append(record.text)
        digests.append(hashlib.sha256(data).hexdigest())
    if not texts:
        raise DatasetError(f"no picture of {root} can be read")
    name = "/".join(root.resolve().parts[-2:])
    return LabelledCrops(name, crops[: len(texts)], tuple(texts), tuple(digests))


def join_sets(sets: Sequence[LabelledCrops]) -> LabelledCrops:
    """One set of several."""
    return LabelledCrops(
        " + ".join(s.name for s in sets),
        np.concatenate([s.crops for s in sets]),
        tuple(text for s in sets for text in s.texts),
        tuple(digest for s in sets for digest in s.digests),
    )


@dataclass(frozen=True)
class Parts:
    """Pictures by purpose; those that set or learn never choose or judge.

    Attributes:
        calibration: set the ranges.
        training: fine-tune; the calibration pictures and whatever else is left.
        selection: choose among recipes.
        checks: judge the result.
    """

    calibration: LabelledCrops
    training: LabelledCrops
    selection: list[LabelledCrops]
    checks: list[LabelledCrops]


def split(data: Sequence[LabelledCrops], checks: Sequence[LabelledCrops], count: int) -> Parts:
    """Calibration pictures, at most `count` and equally many of each set, and the others.

    A fifth of every set is for choosing; without check sets another fifth is for judging.

    Raises:
        ModelError: when a check set shares a picture with the other data, or nothing is left to
            judge by.
    """
    share = max(1, count // len(data))
    calibration, training, selection, held_out = [], [], [], []
    for labelled in data:
        order = np.random.default_rng(0).permutation(len(labelled))
        fifth = len(labelled) // HELD_OUT
        choosing, judging, order = np.split(order, [fifth, fifth if checks else 2 * fifth])
        if fifth:
            selection.append(labelled.pick(choosing))
            if not checks:
                held_out.append(labelled.pick(judging))
        calibration.append(labelled.pick(order[:share]))
        training.append(labelled.pick(order))
    joined = mixed(calibration)
    for labelled in checks:
        used = {digest for part in (*training, *selection) for digest in part.digests}
        shared = set(labelled.digests) & used
        if shared:
            raise ModelError(
                f"{labelled.name} shares {len(shared)} pictures with the calibration data: "
                "check on pictures that calibration has not seen"
            )
    kept_out = list(checks) if checks else held_out
    if not kept_out:
        raise ModelError(
            f"a set needs {HELD_OUT} pictures, some are kept back to judge by: give more, "
            "or a set with --check"
        )
    return Parts(joined, mixed(training), selection or [joined], kept_out)


def mixed(sets: Sequence[LabelledCrops]) -> LabelledCrops:
    """One set of several in random order, so that its first half holds some of each."""
    joined = join_sets(sets)
    return joined.pick(np.random.default_rng(0).permutation(len(joined)))


def run_batches(runner: Runner, crops: UInt8Array, batch: int = BATCH) -> Answer:
    """Answers for any number of crops."""
    parts = [runner(crops[i : i + batch]) for i in range(0, len(crops), batch)]
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([probs for _, probs in parts])


def read_plates(runner: Runner, crops: UInt8Array) -> tuple[str, ...]:
    """Texts of any number of crops."""
    return decode(*run_batches(runner, crops), runner.spec).plates


def exact_match(plates: Sequence[str], texts: Sequence[str]) -> float:
    """Share of plates that are right in every character, in percent."""
    return 100 * sum(p == t for p, t in zip(plates, texts, strict=True)) / len(texts)
