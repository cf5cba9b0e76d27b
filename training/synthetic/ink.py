"""Characters as ink: a mask of the whole serial, the boxes, and the relief that a die leaves."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import cv2
import numpy as np

from training.synthetic.arrays import Array
from training.synthetic.fonts import (
    FIELD_HEIGHT_PX,
    FIELD_PAD_PX,
    FIELD_STEPS_PER_PX,
    FontLibrary,
)
from training.synthetic.layout import Die, Placed
from training.synthetic.textures import above

_DISTANCES = (np.arange(256, dtype=np.float32) - 128) / FIELD_STEPS_PER_PX


def draw_characters(
    placed: Sequence[Placed],
    die: Die,
    library: FontLibrary,
    px_per_mm: float,
    size_px: tuple[int, int],
) -> tuple[Array, Array]:
    """Mask of all characters and their boxes.

    Args:
        placed: what to draw; tokens that are not characters are skipped.
        size_px: (height, width) of the plate.

    Returns:
        mask uint8 [h, w] and boxes float32 [L, 4] (x0, y0, x1, y1, px of the plate).
    """
    height, width = size_px
    mask = np.zeros((height, width), np.uint8)
    boxes = []
    for item in placed:
        if item.token.kind != "char":
            continue
        x, y = item.x * px_per_mm, item.y * px_per_mm
        w, h = max(2.0, item.w * px_per_mm), max(4.0, item.h * px_per_mm)
        boxes.append((x, y, x + w, y + h))
        _stamp(mask, library.field(die.font, item.token.glyph, w / h), die, (x, y, w, h))
    return mask, np.asarray(boxes, np.float32).reshape(-1, 4)


def _stamp(mask: Array, field: Array, die: Die, box: tuple[float, float, float, float]) -> None:
    x, y, w, h = box
    scale_y = h / FIELD_HEIGHT_PX
    scale_x = w / (field.shape[1] - 2 * FIELD_PAD_PX)
    pad_x, pad_y = FIELD_PAD_PX * scale_x, FIELD_PAD_PX * scale_y
    lean = die.shear * h
    x0, y0 = int(x - pad_x - abs(lean) / 2), int(y - pad_y)
    out_w = int(w + 2 * pad_x + abs(lean)) + 3
    out_h = int(h + 2 * pad_y) + 3
    if die.soften > 1:
        field = cv2.blur(field, (die.soften, die.soften))
    # field pixel -> patch pixel, leaning about the middle of the character's height
    matrix = np.array(
        [
            [scale_x, -die.shear * scale_y, x - pad_x - x0 + die.shear * (pad_y + h / 2)],
            [0.0, scale_y, y - pad_y - y0],
        ]
    )
    drawn = cv2.warpAffine(
        field,
        matrix,
        (out_w, out_h),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0,),
    )
    slope = 255.0 * min(scale_x, scale_y) / 1.2
    distance = _DISTANCES + die.weight
    patch = cv2.LUT(drawn, np.clip(distance * slope + 127.0, 0, 255).astype(np.uint8))
    top, left = max(0, y0), max(0, x0)
    bottom, right = min(mask.shape[0], y0 + out_h), min(mask.shape[1], x0 + out_w)
    if bottom > top and right > left:
        target = mask[top:bottom, left:right]
        np.maximum(target, patch[top - y0 : bottom - y0, left - x0 : right - x0], out=target)


def relief(image: Array, mask: Array, rnd: Random, strength: float) -> None:
    """Light and shadow along embossed edges, in place; the light comes from above."""
    reach = rnd.choice((1, 1, 2))
    soft = cv2.blur(mask, (3, 3)) if reach == 1 else cv2.blur(mask, (5, 5))
    sideways = rnd.choice((-1, 0, 1)) * reach
    shift = np.array([[1, 0, sideways], [0, 1, reach]], np.float32)
    moved = cv2.warpAffine(soft, shift, (mask.shape[1], mask.shape[0]))
    amount = 0.55 * strength * rnd.uniform(0.3, 1.0)
    light = cv2.convertScaleAbs(cv2.subtract(soft, moved), alpha=amount * rnd.uniform(0.6, 1.0))
    shade = cv2.convertScaleAbs(cv2.subtract(moved, soft), alpha=amount)
    cv2.add(image, cv2.merge((light, light, light)), dst=image)
    cv2.subtract(image, cv2.merge((shade, shade, shade)), dst=image)


def wear(mask: Array, texture: Array, level: int) -> Array:
    """Ink with paint rubbed off where the texture is above a level (0..255)."""
    lost = above(texture, level, 6.0)
    return cv2.subtract(mask, lost)
