"""What the generator returns."""

from __future__ import annotations

from dataclasses import dataclass

from training.synthetic.arrays import Array


@dataclass(frozen=True)
class SyntheticPlate:
    """One rendered plate and all that is known about it.

    Attributes:
        image: uint8 [H, W, 3] RGB, the plate with some of what is around it.
        text: A-Z 0-9 in reading order: top line then bottom line, left to right; of two small
            letters that stand one above the other, the upper one first; separators not typed.
        region: region code, "DE" or "US-NY".
        style: name of the style inside the region, "car".
        rows: 1 or 2 lines of serial.
        char_boxes: float32 [L, 4], x0, y0, x1, y1 of each character's ink in pixels of image.
        char_rows: uint8 [L], 0 = top (or only) line, 1 = bottom line.
        plate_quad: float32 [4, 2], plate corners tl, tr, br, bl in pixels of image.
    """

    image: Array
    text: str
    region: str
    style: str
    rows: int
    char_boxes: Array
    char_rows: Array
    plate_quad: Array
