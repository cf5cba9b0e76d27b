"""Many readings of one vehicle -> one: the boxes of a video, and how their readings are fused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from clients.errors import ConfigurationError
from clients.flow import UntilError
from clients.result import PlateReading
from clients.writers import Layout, decimals

_NUMBERS: Final = ("frame", "x", "y", "width", "height")


@dataclass(frozen=True, slots=True)
class Box:
    """Where a plate is in a frame.

    Attributes:
        frame: number of the frame, from 0.
        track: name of the vehicle, the same in all its frames; None: there is no plate in this
            frame, which only tells how far the video is.
        x, y, width, height: of the plate in pixels of the frame, from its top left corner.
    """

    frame: int
    track: str | None
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class TrackReading:
    """What all frames of a track say together.

    Attributes:
        track: its name.
        plate: the text, empty when no frame gave one.
        confidence: 0..1, see `Fusion`.
        first_frame, last_frame: of its boxes.
        frames: number of its boxes.
    """

    track: str
    plate: str
    confidence: float
    first_frame: int
    last_frame: int
    frames: int


def parse_boxes(lines: Iterable[str]) -> Iterator[Box]:
    """JSON lines such as `{"frame": 3, "track": "7", "box": [x, y, width, height]}` -> boxes.

    A line `{"frame": 4}` tells that there is no box in that frame.

    Raises:
        ConfigurationError: for a line that is none, or whose frame lies before an earlier one:
            a video is read forwards only.
    """
    latest = 0
    for number, line in enumerate(lines, 1):
        if number == 1:
            line = line.removeprefix("\ufeff")  # noqa: PLW2901 - as Windows' editors begin a file
        if not line.strip():
            continue
        try:
            box = _box(json.loads(line))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ConfigurationError(
                f'boxes, line {number}: give {{"frame": 3, "track": "7", "box": [x, y, width, '
                f"height]}} in whole numbers ({type(error).__name__}: {error})"
            ) from error
        if box.frame < latest:
            raise ConfigurationError(
                f"boxes, line {number}: frame {box.frame} comes after frame {latest}; "
                "sort the lines by frame"
            )
        latest = box.frame
        yield box


def _box(values: dict[str, Any]) -> Box:
    frame = _whole(values["frame"])
    if frame < 0:
        raise ValueError("frames count from 0")
    if "box" not in values and "track" not in values:
        return Box(frame, None, 0, 0, 0, 0)
    track = values["track"]
    if isinstance(track, bool) or not isinstance(track, str | int):  # null: not confirmed yet
        raise TypeError(f"a track is a text or a whole number, not {json.dumps(track)}")
    sides = [_whole(value) for value in values["box"]]
    if len(sides) != 4 or min(sides[2:]) < 1:
        raise ValueError("a box is [x, y, width, height], width and height at least 1")
    # A name must be written again: what is no text becomes escapes.
    return Box(frame, str(track).encode("utf-8", "backslashreplace").decode(), *sides)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


@dataclass
class Fusion:
    """The readings of one track.

    Every frame votes for its text with its confidence; the text with the most votes wins. Its
    confidence is the best one among its frames times its share of all votes: one sharp frame
    among blurred ones that agree stays sure, and frames that contradict one another do not.
    Frames are no independent witnesses, so that confidences are not multiplied up.
    """

    track: str
    first_frame: int
    last_frame: int
    frames: int = 0
    votes: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)

    def add(self, frame: int, reading: PlateReading) -> None:
        """A frame's reading; an empty plate is no vote."""
        self.last_frame = frame
        self.frames += 1
        if reading.plate:
            text, sure = reading.plate, reading.confidence
            self.votes[text] = self.votes.get(text, 0.0) + sure
            self.best[text] = max(self.best.get(text, 0.0), sure)

    def result(self) -> TrackReading:
        """The verdict so far."""
        total = sum(self.votes.values())
        text = max(self.votes, key=lambda text: self.votes[text], default="")
        confidence = self.best[text] * self.votes[text] / total if total > 0 else 0.0
        return TrackReading(
            self.track, text, confidence, self.first_frame, self.last_frame, self.frames
        )


def fuse(
    readings: Iterable[tuple[Box, PlateReading]], *, patience_frames: int
) -> Iterator[TrackReading]:
    """Readings in order of frames -> one row a track, when it is over.

    Args:
        readings: of all boxes.
        patience_frames: a track without a box for so many frames is over; what comes under its
            name later is another one. Bounds memory on a camera that never ends.

    Raises:
        ClientError: what `readings` raises, behind the rows of the tracks up to there.
    """
    open_tracks: dict[str, Fusion] = {}  # the track whose last box is oldest stands first
    source = UntilError(readings)
    for box, reading in source:
        while open_tracks:
            oldest = next(iter(open_tracks.values()))
            if box.frame - oldest.last_frame <= patience_frames:
                break
            del open_tracks[oldest.track]
            yield oldest.result()
        if box.track is None:
            continue
        fusion = open_tracks.pop(box.track, None)
        if fusion is None:
            fusion = Fusion(box.track, box.frame, box.frame)
        fusion.add(box.frame, reading)
        open_tracks[box.track] = fusion
    for fusion in open_tracks.values():
        yield fusion.result()
    source.check()


def _cells(row: TrackReading) -> tuple[str, ...]:
    frames = (row.first_frame, row.last_frame, row.frames)
    return row.track, row.plate, decimals(row.confidence), *map(str, frames)


def _object(row: TrackReading) -> dict[str, Any]:
    return {
        "track": row.track,
        "plate": row.plate,
        "confidence": float(decimals(row.confidence)),
        "first_frame": row.first_frame,
        "last_frame": row.last_frame,
        "frames": row.frames,
    }


TRACK_ROWS: Final = Layout(
    ("track", "plate", "confidence", "first_frame", "last_frame", "frames"), _cells, _object
)
"""One row a track."""
