"""What a client gives back, the same from every way of calling."""

from __future__ import annotations

from dataclasses import dataclass

from clients.errors import InvalidPicture


@dataclass(frozen=True, slots=True)
class PlateReading:
    """The text on one plate.

    Attributes:
        plate: characters top line first, without separators; empty when nothing was read.
        confidence: 0..1, product over all characters; 0 for an empty plate.
        char_confidences: 0..1 for each of the first `lprnet.contract.MAX_CHARACTERS` characters.
    """

    plate: str
    confidence: float
    char_confidences: tuple[float, ...]


Outcome = PlateReading | InvalidPicture
"""A reading, or why there is none. A bad picture takes its own slot and no other."""


@dataclass(frozen=True, slots=True)
class FileReading:
    """One row of `lprnet read`.

    Attributes:
        file: the path as it was given or found.
        reading: what was read, or None.
        error: why nothing was read, one sentence, or None.
    """

    file: str
    reading: PlateReading | None
    error: str | None = None
