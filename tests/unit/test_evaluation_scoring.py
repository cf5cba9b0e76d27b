"""Scores against examples that were worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.data.records import Record
from training.evaluation.scoring import score


def record(text: str, region: str = "DE", two: bool | None = False, source: str = "a") -> Record:
    return Record(Path(f"{text}.jpg"), text, region, source, two)


RECORDS = [
    record("AB12"),
    record("B0B", "DE", True),
    record("XYZ789", "PL", None, "b"),
    record("IO", "", False, "b"),
]
PLATES = ["AB12", "BOB", "XYZ78", "10"]
CONFIDENCES = [0.9, 0.8, 0.3, 0.2]


def test_scores_by_hand() -> None:
    scores = score(RECORDS, PLATES, CONFIDENCES)
    assert (scores.n, scores.strict, scores.folded) == (4, 0.25, 0.75)
    # 0 + 1 + 1 + 2 edits over 4 + 3 + 6 + 2 characters
    assert scores.character_error_rate == pytest.approx(4 / 15)
    assert scores.interval[0] < 0.25 < scores.interval[1]
    # four bins of one: 0.1 + 0.8 + 0.3 + 0.2
    assert scores.calibration_error == pytest.approx(1.4 / 4)
    assert (scores.coverage.share, scores.coverage.threshold) == (0.25, 0.9)


def test_scores_are_split() -> None:
    scores = score(RECORDS, PLATES, CONFIDENCES)
    regions = {name: (g.n, g.strict.right, g.folded.right) for name, g in scores.by_region.items()}
    assert regions == {"": (1, 0, 1), "DE": (2, 1, 2), "PL": (1, 0, 0)}
    assert {name: g.n for name, g in scores.by_source.items()} == {"a": 2, "b": 2}
    lines = {name: (g.strict.right, g.n) for name, g in scores.by_lines.items()}
    assert lines == {"one line": (1, 2), "two lines": (0, 1), "unknown": (0, 1)}
    assert scores.by_region["DE"].character_error_rate == pytest.approx(1 / 7)


def test_an_unread_plate_is_wrong_and_an_unlabelled_one_right_when_empty() -> None:
    scores = score([record("AB"), record("")], ["", ""], [0.0, 0.0])
    assert scores.strict == 0.5
    assert scores.character_error_rate == 1.0


def test_scores_of_nothing() -> None:
    scores = score([], [], [])
    assert (scores.n, scores.strict, scores.interval) == (0, 0.0, (0.0, 1.0))


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="zip"):
        score(RECORDS, PLATES[:3], CONFIDENCES)
    with pytest.raises(ValueError, match="confidences"):
        score(RECORDS, PLATES, CONFIDENCES[:3])


def test_scores_are_json() -> None:
    values = json.loads(json.dumps(score(RECORDS, PLATES, CONFIDENCES).to_dict()))
    assert values["strict"]["right"] == 1
    assert values["by_region"]["DE"]["folded"]["share"] == 1.0
    assert values["coverage"]["share"] == 0.25
