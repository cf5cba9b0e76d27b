"""Boxes of a video, and what the readings of a track say together."""

from __future__ import annotations

import json

import pytest

from clients.errors import ConfigurationError
from clients.result import PlateReading
from clients.tracks import Box, TrackReading, fuse, parse_boxes


def line(frame, track="1", box=(0, 0, 10, 10)):
    return json.dumps({"frame": frame, "track": track, "box": box})


def test_boxes():
    lines = [line(0, 7, [1, 2, 30.0, 4]), "", line(0, "b"), line(5)]
    assert [(box.frame, box.track) for box in parse_boxes(lines)] == [(0, "7"), (0, "b"), (5, "1")]
    assert next(parse_boxes(lines)) == Box(0, "7", 1, 2, 30, 4)


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        "3",
        line(0, box=[1, 2, 3]),
        line(0, box=[1, 2, 3, 4.5]),
        line(0, box=[1, 2, 3, "4"]),
        line("0"),
        line(True),
        line(0).replace("0", "1e999", 1),
        json.dumps({"frame": 0, "box": [1, 2, 3, 4]}),
    ],
)
def test_bad_line_is_named(bad):
    with pytest.raises(ConfigurationError, match="line 2"):
        list(parse_boxes([line(0), bad]))


def test_frames_must_go_forwards():
    with pytest.raises(ConfigurationError, match="frame 3 comes after frame 4"):
        list(parse_boxes([line(4), line(3)]))


def fused(*readings, patience_frames=10):
    """(frame, track, plate, confidence) ... -> rows."""
    return list(
        fuse(
            (
                (Box(frame, track, 0, 0, 1, 1), PlateReading(plate, sure, ()))
                for frame, track, plate, sure in readings
            ),
            patience_frames=patience_frames,
        )
    )


def test_one_sharp_frame_beats_blurred_ones_that_disagree():
    rows = fused((0, "a", "AB12", 0.9), (1, "a", "A812", 0.3), (2, "a", "AB1Z", 0.3))
    assert rows == [TrackReading("a", "AB12", pytest.approx(0.9 * 0.9 / 1.5), 0, 2, 3)]


def test_many_weak_frames_that_agree_beat_one_strong():
    rows = fused(*((i, "a", "AB12", 0.5) for i in range(3)), (3, "a", "XX99", 0.9))
    assert rows[0].plate == "AB12"
    assert rows[0].confidence == pytest.approx(0.5 * 1.5 / 2.4)


def test_agreement_keeps_the_best_confidence_and_empty_frames_do_not_count():
    rows = fused((0, "a", "", 0.0), (1, "a", "AB12", 0.7), (2, "a", "AB12", 0.95))
    assert (rows[0].plate, rows[0].frames) == ("AB12", 3)
    assert rows[0].confidence == pytest.approx(0.95)


def test_track_without_a_plate():
    assert fused((4, "a", "", 0.0)) == [TrackReading("a", "", 0.0, 4, 4, 1)]
    assert fused((4, "a", "A", 0.0))[0].confidence == 0.0


def test_tracks_end_by_patience_and_names_may_return():
    rows = fused(
        (0, "a", "AA", 1.0),
        (5, "b", "BB", 1.0),
        (10, "a", "AA", 1.0),
        (16, "b", "B2", 1.0),
        (30, "a", "CC", 1.0),
    )
    assert [(row.track, row.plate, row.first_frame, row.last_frame) for row in rows] == [
        ("b", "BB", 5, 5),
        ("a", "AA", 0, 10),
        ("b", "B2", 16, 16),
        ("a", "CC", 30, 30),
    ]


def test_no_boxes():
    assert fused() == []
