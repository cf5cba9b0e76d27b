"""Scores of a reader on labelled plates, in all and split by region, source and lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lprnet.charset import fold_lookalikes
from training.data.records import Record
from training.evaluation.alignment import edit_distance
from training.evaluation.statistics import (
    Coverage,
    calibration_error,
    calibration_floor,
    coverage_at,
    wilson_interval,
)


@dataclass(frozen=True)
class Accuracy:
    """Exact match over whole plates: `right` of `n`."""

    right: int
    n: int

    @property
    def share(self) -> float:
        """0..1; 0 where nothing was measured."""
        return self.right / self.n if self.n else 0.0

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval, each end 0..1."""
        return wilson_interval(self.right, self.n)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "right": self.right,
            "n": self.n,
            "share": self.share,
            "interval": list(self.interval),
        }


@dataclass(frozen=True)
class GroupScore:
    """Scores of a group of plates.

    Attributes:
        strict: exact match.
        folded: exact match with O = 0 and I = 1 (`lprnet.charset.fold_lookalikes`).
        character_error_rate: edit distance over all plates / characters of all labels.
    """

    strict: Accuracy
    folded: Accuracy
    character_error_rate: float

    @property
    def n(self) -> int:
        """Plates of the group."""
        return self.strict.n

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "n": self.n,
            "strict": self.strict.to_dict(),
            "folded": self.folded.to_dict(),
            "character_error_rate": self.character_error_rate,
        }


@dataclass(frozen=True)
class Scores:
    """Scores of one reader on one list of records.

    Attributes:
        total: of all plates.
        by_region, by_source: by `Record.region` and `Record.source`; "" = unknown.
        by_lines: keys "one line", "two lines", "unknown", where they occur.
        calibration_error: 15 bins of equal count, of "the plate is right" (strict), 0..1.
        calibration_floor: what perfect calibration would show on so many plates.
        coverage: share of plates that can be accepted so that 99.5 % of those are right.
    """

    total: GroupScore
    by_region: dict[str, GroupScore]
    by_source: dict[str, GroupScore]
    by_lines: dict[str, GroupScore]
    calibration_error: float
    calibration_floor: float
    coverage: Coverage

    @property
    def n(self) -> int:
        """Plates measured."""
        return self.total.n

    @property
    def strict(self) -> float:
        """Share of plates read exactly, 0..1."""
        return self.total.strict.share

    @property
    def folded(self) -> float:
        """The same with O = 0 and I = 1."""
        return self.total.folded.share

    @property
    def character_error_rate(self) -> float:
        """Edit distance / label characters."""
        return self.total.character_error_rate

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of `strict`."""
        return self.total.strict.interval

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        groups = {
            name: {key: group.to_dict() for key, group in getattr(self, name).items()}
            for name in ("by_region", "by_source", "by_lines")
        }
        return {
            **self.total.to_dict(),
            "calibration_error": self.calibration_error,
            "calibration_floor": self.calibration_floor,
            "coverage": dataclasses.asdict(self.coverage),
            **groups,
        }


def _lines(record: Record) -> str:
    if record.two_lines is None:
        return "unknown"
    return "two lines" if record.two_lines else "one line"


def is_right(records: Sequence[Record], plates: Sequence[str]) -> npt.NDArray[np.bool_]:
    """[N] booleans: which plates are read exactly."""
    return np.array([r.text == p for r, p in zip(records, plates, strict=True)], dtype=bool)


def score(records: Sequence[Record], plates: Sequence[str], confidences: Sequence[float]) -> Scores:
    """Score answers against labels.

    Args:
        records: N labelled crops.
        plates: N texts as read, upper case without separators.
        confidences: N plate confidences, 0..1.

    Raises:
        ValueError: when the three differ in length or a confidence leaves 0..1.
    """
    right = is_right(records, plates)
    folded = np.array(
        [
            fold_lookalikes(r.text) == fold_lookalikes(p)
            for r, p in zip(records, plates, strict=True)
        ],
        dtype=bool,
    )
    edits = np.array(
        [edit_distance(r.text, p) for r, p in zip(records, plates, strict=True)], dtype=np.int64
    )
    characters = np.array([len(r.text) for r in records], dtype=np.int64)

    def group(members: npt.NDArray[np.intp]) -> GroupScore:
        n = len(members)
        return GroupScore(
            Accuracy(int(right[members].sum()), n),
            Accuracy(int(folded[members].sum()), n),
            float(edits[members].sum() / max(int(characters[members].sum()), 1)),
        )

    def split(keys: Sequence[str]) -> dict[str, GroupScore]:
        labels = np.array(keys)
        return {str(key): group(np.flatnonzero(labels == key)) for key in sorted(set(keys))}

    return Scores(
        total=group(np.arange(len(records))),
        by_region=split([r.region for r in records]),
        by_source=split([r.source for r in records]),
        by_lines=split([_lines(r) for r in records]),
        calibration_error=calibration_error(confidences, right),
        calibration_floor=calibration_floor(confidences),
        coverage=coverage_at(confidences, right),
    )
