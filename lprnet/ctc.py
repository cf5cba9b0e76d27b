"""Greedy (best path) CTC decoding, vectorised over a batch, with a confidence.

Best path: Graves et al. 2006, "Connectionist Temporal Classification", section 3.2: take the
best class at every time step, merge equal neighbours into runs, drop runs of the blank.

Confidence: the maximum probability within each character's run is that character's confidence;
their product (multiplied in double precision, from left to right) is the plate's. Blanks do not
count. An empty plate has confidence 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lprnet.contract import MAX_CHARACTERS
from lprnet.errors import SpecError
from lprnet.plate_spec import PlateSpec

_ZERO, _ONE = np.float32(0), np.float32(1)
_FEW = 2  # up to here a loop in Python is quicker than some thirty calls of numpy


@dataclass(frozen=True)
class DecodedBatch:
    """Plates of a batch of N.

    Attributes:
        plates: N texts, in full even beyond `MAX_CHARACTERS`.
        confidence: [N] FP32 in 0..1, product over all characters of the plate.
        char_confidences: [N, MAX_CHARACTERS] FP32 in 0..1, 0-padded.
        plate_ids: [N, MAX_CHARACTERS] INT32 class ids, -1-padded.
    """

    plates: tuple[str, ...]
    confidence: npt.NDArray[np.float32]
    char_confidences: npt.NDArray[np.float32]
    plate_ids: npt.NDArray[np.int32]


def decode(
    char_ids: npt.NDArray[np.integer[Any]],
    char_probs: npt.NDArray[np.floating[Any]],
    spec: PlateSpec,
) -> DecodedBatch:
    """Decode the engine's output.

    Args:
        char_ids: [N, T] best class per time step, 0..spec.classes - 1.
        char_probs: [N, T] its probability, 0..1. A NaN counts as 0, so that a damaged output can
            never pass a confidence threshold; values outside 0..1 are clipped.
        spec: charset and blank; its `time_steps` must equal T.

    Raises:
        SpecError: for shapes that do not fit, or class ids that the spec does not know: the
            engine and the spec are not of one kin.
    """
    ids = np.asarray(char_ids)
    probs = np.asarray(char_probs, dtype=np.float32)
    if ids.ndim != 2 or ids.shape != probs.shape or ids.shape[1] != spec.time_steps:
        raise SpecError(
            f"engine output ids {ids.shape}, probabilities {probs.shape}: both must be "
            f"[N, {spec.time_steps}]"
        )
    if ids.dtype.kind not in "iu":
        raise SpecError(f"class ids must be integers, not {ids.dtype}")
    count, steps = ids.shape
    if count <= _FEW:
        return _decode_few(ids.tolist(), probs.tolist(), spec)
    lowest, highest = ids.min(), ids.max()
    _check_range(lowest, highest, spec)
    # fmax turns NaN to 0.
    probs = np.fmin(np.fmax(probs, _ZERO), _ONE)

    flat = ids.ravel()
    starts = np.empty(len(flat), dtype=bool)
    np.not_equal(flat[1:], flat[:-1], out=starts[1:])
    starts[::steps] = True  # every row opens a run of its own
    start_at = starts.nonzero()[0]
    run_ids = flat[start_at]
    run_probs = np.maximum.reduceat(probs.ravel(), start_at)
    is_character = run_ids != spec.blank
    rows = start_at[is_character] // steps
    return _scatter(rows, run_ids[is_character], run_probs[is_character], count, spec)


def _check_range(lowest: int, highest: int, spec: PlateSpec) -> None:
    if lowest < 0 or highest >= spec.classes:
        raise SpecError(
            f"class ids {lowest}..{highest} leave 0..{spec.classes - 1}: "
            "the engine was built for another charset"
        )


def _decode_few(
    all_ids: list[list[int]], all_probs: list[list[float]], spec: PlateSpec
) -> DecodedBatch:
    """The same as the vectorised path, bit for bit.

    Almost without numpy: one plate comes right behind an inference, which leaves the caches cold,
    and then it counts how much different code runs (load_tests/NOTES.md).
    """
    blank, names = spec.blank, spec.class_texts
    plates: list[str] = []
    products: list[float] = []
    confidence_rows: list[list[float]] = []
    id_rows: list[list[int]] = []
    for ids, probs in zip(all_ids, all_probs, strict=True):
        _check_range(min(ids), max(ids), spec)
        characters: list[int] = []
        best: list[float] = []
        previous = blank
        for class_id, given in zip(ids, probs, strict=True):
            if class_id == blank:
                previous = blank
                continue
            prob = min(given, 1.0) if given > 0 else 0.0  # NaN is not more than 0
            if class_id != previous:
                previous = class_id
                characters.append(class_id)
                best.append(prob)
            elif prob > best[-1]:
                best[-1] = prob
        plates.append("".join([names[class_id] for class_id in characters]))
        products.append(math.prod(best) if best else 0.0)
        free = MAX_CHARACTERS - len(best)
        confidence_rows.append(best + [0.0] * free if free >= 0 else best[:MAX_CHARACTERS])
        id_rows.append(characters + [-1] * free if free >= 0 else characters[:MAX_CHARACTERS])
    return DecodedBatch(
        tuple(plates),
        np.array(products, dtype=np.float32),
        np.array(confidence_rows, dtype=np.float32).reshape(-1, MAX_CHARACTERS),
        np.array(id_rows, dtype=np.int32).reshape(-1, MAX_CHARACTERS),
    )


def _scatter(
    rows: npt.NDArray[np.intp],
    ids: npt.NDArray[np.integer[Any]],
    probs: npt.NDArray[np.float32],
    count: int,
    spec: PlateSpec,
) -> DecodedBatch:
    """Characters of all plates one after another -> one row a plate."""
    lengths = np.bincount(rows, minlength=count)
    ends = lengths.cumsum()
    begins = ends - lengths
    text = "".join(spec.class_characters[ids].tolist())
    plates = tuple([text[b:e] for b, e in zip(begins.tolist(), ends.tolist(), strict=True)])

    confidence = np.zeros(count, dtype=np.float32)
    if text:
        filled = lengths > 0
        confidence[filled] = np.multiply.reduceat(probs, begins[filled], dtype=np.float64)

    char_confidences = np.zeros((count, MAX_CHARACTERS), dtype=np.float32)
    plate_ids = np.full((count, MAX_CHARACTERS), -1, dtype=np.int32)
    position = np.arange(len(rows)) - begins[rows]
    if max(map(len, plates), default=0) > MAX_CHARACTERS:
        fits = position < MAX_CHARACTERS
        rows, position, probs, ids = rows[fits], position[fits], probs[fits], ids[fits]
    char_confidences[rows, position] = probs
    plate_ids[rows, position] = ids
    return DecodedBatch(plates, confidence, char_confidences, plate_ids)
