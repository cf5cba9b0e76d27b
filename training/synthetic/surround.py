"""What is around a plate: paint, bumper, recess, and the frames that dealers screw on."""

from __future__ import annotations

from random import Random

import cv2
import numpy as np

from training.synthetic.arrays import Array
from training.synthetic.decor import put_text
from training.synthetic.fonts import FontLibrary
from training.synthetic.palette import Colour, anything, tinted
from training.synthetic.textures import cut
from training.synthetic.words import dealer_line

_DARK = ("black", "darkgrey", "black", "navy")


def make_surround(rnd: Random, height: int, width: int) -> Array:
    """Background for a plate, uint8 [height, width, 3] RGB."""
    look = rnd.random()
    if look < 0.45:
        base = tinted(rnd, rnd.choice(_DARK), 14)
    elif look < 0.75:
        base = tinted(rnd, rnd.choice(("silver", "white", "grey", "navy", "red", "darkgreen")), 20)
    else:
        base = anything(rnd)
    rows, columns = rnd.randint(2, 4), rnd.randint(2, 5)
    grid = np.array(
        [[[rnd.uniform(0.5, 1.5)] for _ in range(columns)] for _ in range(rows)], np.float32
    )
    patches = np.clip(grid * np.array(base, np.float32), 0, 255).astype(np.uint8)
    image = cv2.resize(patches, (width, height), interpolation=cv2.INTER_LINEAR)
    for _ in range(rnd.randint(0, 3)):  # edges of the bumper, of the recess, of the number lamp
        y = rnd.randrange(height)
        slope = round(rnd.gauss(0, 0.04) * width)
        cv2.line(
            image, (0, y), (width, y + slope), anything(rnd), rnd.randint(1, max(2, height // 10))
        )
    if rnd.random() < 0.4:
        grain = cut(rnd, "grain", height, width)
        image = cv2.addWeighted(image, 1.0, cv2.merge((grain, grain, grain)), 0.15, -19)
    return image


def draw_frame(
    image: Array,
    plate: tuple[int, int, int, int],
    px_per_mm: float,
    library: FontLibrary,
    rnd: Random,
    thick: bool,
) -> None:
    """A plate holder around and slightly over the plate, in place.

    Args:
        plate: x0, y0, x1, y1 of the plate in px of image.
        thick: US style, with broad text bars above and below.
    """
    x0, y0, x1, y1 = plate
    height = y1 - y0
    lap = round(rnd.uniform(0.0, 0.025) * height)
    side = max(2, round((rnd.uniform(0.03, 0.07) if thick else rnd.uniform(0.02, 0.07)) * height))
    low_bar = side if rnd.random() < 0.25 else round(rnd.uniform(0.08, 0.2) * height)
    high_bar = side if not thick or rnd.random() < 0.4 else round(rnd.uniform(0.06, 0.13) * height)
    bottom_lap = lap + (round(max(0.0, rnd.uniform(-0.03, 0.1)) * height) if thick else 0)
    top_lap = lap + (round(max(0.0, rnd.uniform(-0.06, 0.1)) * height) if thick else 0)
    colour: Colour = (
        tinted(rnd, "black") if rnd.random() < 0.7
        else tinted(rnd, rnd.choice(("chrome", "silver", "white", "navy", "red")))
    )  # fmt: skip
    box = (x0 - side + lap, y0 - high_bar + lap, x1 + side - lap, y1 + low_bar - bottom_lap)
    limit_y, limit_x = image.shape[:2]
    for a, b, c, d in (
        (box[0], box[1], box[2], y0 + top_lap),
        (box[0], y1 - bottom_lap, box[2], box[3]),
        (box[0], box[1], x0 + lap, box[3]),
        (x1 - lap, box[1], box[2], box[3]),
    ):
        image[max(0, b) : min(limit_y, d), max(0, a) : min(limit_x, c)] = colour
    shine = tuple(min(255, c + 40) for c in colour)
    cv2.rectangle(image, (box[0], box[1]), (box[2], box[3]), shine, 1)
    for top, bottom in ((box[1], y0 + top_lap), (y1 - bottom_lap, box[3])):
        high = min(bottom, limit_y) - max(top, 0)
        if high >= 0.06 * height and high >= 5 and rnd.random() < 0.75:
            part = image[max(0, top) : min(bottom, limit_y), max(0, box[0]) : min(limit_x, box[2])]
            ink = tinted(rnd, "white") if sum(colour) < 380 else tinted(rnd, "black")
            if rnd.random() < 0.2:
                ink = anything(rnd)
            put_text(
                part, dealer_line(rnd), library, rnd, "caption", (rnd.uniform(0.35, 0.65), 0.5),
                rnd.uniform(0.5, 0.8), 0.9, ink,
            )  # fmt: skip
