"""All figures of one evaluation, as values and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lprnet import __version__
from lprnet.errors import LprnetError
from training.evaluation.alignment import confusions
from training.evaluation.calibration import TemperatureFit
from training.evaluation.measure import Measurement, Speed
from training.evaluation.pictures import LabelledSet
from training.evaluation.readers import Answers
from training.evaluation.robustness import Curve, mean_accuracy

ALL_SETS = "all"
MISSING = "(none)"
"""How a missing or surplus character is shown."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        sets: in the order given.
        descriptions: reader name -> what it is, in the order given.
        measurements: every reader on every set.
        threads: of readers in this process.
        speed: by reader name; empty when not measured.
        curves: robustness; empty when not measured.
        temperature: fit over all sets, or None.
    """

    sets: tuple[LabelledSet, ...]
    descriptions: dict[str, str]
    measurements: tuple[Measurement, ...]
    threads: int
    speed: dict[str, Speed] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()
    temperature: TemperatureFit | None = None

    def of_reader(self, reader: str) -> list[Measurement]:
        """Its measurements, set by set."""
        return [m for m in self.measurements if m.reader == reader]

    def pooled(self) -> list[Measurement]:
        """Every reader on all sets together."""
        return [pool(self.of_reader(reader)) for reader in self.descriptions]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        readers = []
        for name, description in self.descriptions.items():
            mine = self.of_reader(name)
            entry: dict[str, Any] = {
                "name": name,
                "description": description,
                "sets": {m.labelled.name: m.scores.to_dict() for m in mine},
                ALL_SETS: pool(mine).scores.to_dict(),
                "confusions": [
                    {"label": label, "read": read, "times": times}
                    for label, read, times in confusion_rows(pool(mine))
                ],
            }
            if name in self.speed:
                entry["speed"] = dataclasses.asdict(self.speed[name])
            if self.curves:
                entry["robustness"] = {
                    "mean": mean_accuracy(self.curves, name),
                    "n": self.curves[0].n,
                    "curves": {
                        c.distortion: list(c.shares) for c in self.curves if c.reader == name
                    },
                }
            readers.append(entry)
        fit = None if self.temperature is None else dataclasses.asdict(self.temperature)
        return {
            "version": __version__,
            "threads": self.threads,
            "unreadable": {s.name: [list(u) for u in s.unreadable] for s in self.sets},
            "temperature": fit,
            "readers": readers,
        }


def pool(measurements: Sequence[Measurement]) -> Measurement:
    """One reader's measurements as if all sets were one."""
    sets = [m.labelled for m in measurements]
    return Measurement(
        measurements[0].reader,
        LabelledSet(
            ALL_SETS,
            tuple(record for s in sets for record in s.records),
            tuple(picture for s in sets for picture in s.pictures),
            tuple(entry for s in sets for entry in s.unreadable),
        ),
        Answers(
            tuple(plate for m in measurements for plate in m.answers.plates),
            np.concatenate([m.answers.confidences for m in measurements]),
        ),
    )


def confusion_rows(measurement: Measurement) -> list[tuple[str, str, int]]:
    """(label character, read character, times), most frequent first.

    Plates of which nothing was read are left out: they would fill the table with misses.
    """
    texts = (r.text for r in measurement.labelled.records)
    pairs = [(t, p) for t, p in zip(texts, measurement.answers.plates, strict=True) if p]
    found = sorted(confusions(pairs).items(), key=lambda item: (-item[1], item[0]))
    return [(a or MISSING, b or MISSING, times) for (a, b), times in found]


def write_json(result: Evaluation, path: Path) -> None:
    """Write `Evaluation.to_dict`. Raises LprnetError when the file cannot be written."""
    write_text(path, json.dumps(result.to_dict(), indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a report; its folder is made. Raises LprnetError when that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LprnetError(f"cannot write {path}: {error.strerror}") from error
