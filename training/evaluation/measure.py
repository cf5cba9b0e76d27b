"""Run a reader over a set: answers, scores and time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from training.evaluation.pictures import LabelledSet, Picture
from training.evaluation.readers import Answers, Reader
from training.evaluation.scoring import Scores, is_right, score

BATCH = 32


@dataclass(frozen=True)
class Measurement:
    """One reader on one set.

    Attributes:
        reader: its name.
        labelled: the set.
        answers: of all N records; "" with confidence 0 where the picture is unreadable.
    """

    reader: str
    labelled: LabelledSet
    answers: Answers

    @cached_property
    def right(self) -> npt.NDArray[np.bool_]:
        """[N] which plates are read exactly."""
        return is_right(self.labelled.records, self.answers.plates)

    @cached_property
    def scores(self) -> Scores:
        """All figures."""
        return score(self.labelled.records, self.answers.plates, self.answers.confidences.tolist())


def read_all(
    reader: Reader, pictures: Sequence[Picture | None], title: str, batch: int = BATCH
) -> Answers:
    """Read any number of pictures in batches; a missing picture is an empty plate."""
    present = [i for i, picture in enumerate(pictures) if picture is not None]
    plates = [""] * len(pictures)
    confidences = np.zeros(len(pictures), np.float32)
    starts = range(0, len(present), batch)
    for start in tqdm(starts, desc=title, unit="batch", disable=None, leave=False):
        places = present[start : start + batch]
        answers = reader.read([p for i in places if (p := pictures[i]) is not None])
        for i, plate in zip(places, answers.plates, strict=True):
            plates[i] = plate
        confidences[places] = answers.confidences
    return Answers(tuple(plates), confidences)


def measure(reader: Reader, labelled: LabelledSet) -> Measurement:
    """Read and score a set."""
    answers = read_all(reader, labelled.pictures, f"{reader.name} on {labelled.name}")
    return Measurement(reader.name, labelled, answers)


@dataclass(frozen=True)
class Speed:
    """Time of one reader, from decoded pixels to text, in milliseconds a crop.

    Attributes:
        batch1_p50_ms, batch1_p99_ms: one crop at a time.
        batch32_ms: median over batches of 32.
        crops: how many were read one at a time.
    """

    batch1_p50_ms: float
    batch1_p99_ms: float
    batch32_ms: float
    crops: int


def measure_speed(
    readers: Sequence[Reader], pictures: Sequence[Picture], crops: int = 150, rounds: int = 3
) -> dict[str, Speed]:
    """Time readers side by side, in turns, so that a busy moment hits all of them.

    Args:
        readers: at least one.
        pictures: where the crops come from; taken evenly over the whole.
        crops: at most so many a round.
        rounds: turns of each reader.
    """
    step = max(1, len(pictures) // crops)
    chosen = list(pictures[::step][:crops])
    if not chosen:
        return {}
    batch = (chosen * (BATCH // len(chosen) + 1))[:BATCH]
    single: dict[str, list[float]] = {reader.name: [] for reader in readers}
    many: dict[str, list[float]] = {reader.name: [] for reader in readers}
    for reader in readers:  # the first call of each shape plans and allocates
        reader.read(chosen[:1])
        reader.read(batch)
    for _ in range(rounds):
        for reader in readers:
            for picture in chosen:
                start = time.perf_counter()
                reader.read([picture])
                single[reader.name].append(time.perf_counter() - start)
            for _ in range(3):
                start = time.perf_counter()
                reader.read(batch)
                many[reader.name].append((time.perf_counter() - start) / len(batch))
    return {
        name: Speed(
            1e3 * float(np.percentile(times, 50)),
            1e3 * float(np.percentile(times, 99)),
            1e3 * float(np.median(many[name])),
            len(chosen),
        )
        for name, times in single.items()
    }
