"""A pool of noise fields, made once from a fixed seed, cut at random places."""

from __future__ import annotations

from functools import lru_cache
from random import Random

import cv2
import numpy as np

from training.synthetic.arrays import Array

POOL_SIDE_PX = 1024


@lru_cache(maxsize=1)
def _pool() -> dict[str, Array]:
    rng = np.random.default_rng(20240601)
    side = POOL_SIDE_PX

    def octave(cells: int) -> Array:
        grid = rng.normal(0.0, 1.0, (cells, cells)).astype(np.float32)
        return cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)

    grain = rng.normal(0.0, 1.0, (side, side)).astype(np.float32)
    cloud = octave(8) + 0.7 * octave(24) + 0.5 * octave(80)
    dirt = octave(30) + 0.8 * octave(110) + 0.6 * octave(340)
    spots = cv2.GaussianBlur(grain, (0, 0), 1.6) * 5 + 0.6 * octave(40)
    scratches = np.zeros((side, side), np.float32)
    for _ in range(260):
        x, y = rng.integers(0, side, 2)
        dx, dy = rng.normal(0, 60), rng.normal(0, 20)
        cv2.line(scratches, (int(x), int(y)), (int(x + dx), int(y + dy)), (float(rng.random()),), 1)
    return {
        "grain": _to_bytes(grain, 40.0),
        "cloud": _to_bytes(cloud, 50.0),
        "dirt": _to_bytes(dirt, 50.0),
        "spots": _to_bytes(spots, 50.0),
        "scratches": (scratches * 255).astype(np.uint8),
    }


def _to_bytes(noise: Array, spread: float) -> Array:
    scaled = 128 + spread * (noise - noise.mean()) / noise.std()
    small: Array = np.clip(scaled, 0, 255).astype(np.uint8)
    return small


def cut(rnd: Random, kind: str, height: int, width: int, zoom: float = 1.0) -> Array:
    """A uint8 [height, width] view or resized cut of a texture, mean about 128."""
    pool = _pool()[kind]
    h, w = min(POOL_SIDE_PX, int(height / zoom) + 1), min(POOL_SIDE_PX, int(width / zoom) + 1)
    y = rnd.randrange(POOL_SIDE_PX - h + 1)
    x = rnd.randrange(POOL_SIDE_PX - w + 1)
    piece = pool[y : y + h, x : x + w]
    if piece.shape != (height, width):
        piece = cv2.resize(piece, (width, height), interpolation=cv2.INTER_LINEAR)
    return piece


def above(texture: Array, level: int, gain: float) -> Array:
    """How far a texture is above a level, times a gain: uint8, same shape."""
    ramp = np.clip((np.arange(256) - level) * gain, 0, 255).astype(np.uint8)
    return cv2.LUT(texture, ramp)


def blend(image: Array, mask: Array, colour: tuple[int, int, int]) -> None:
    """Paint a colour through a mask, in place. image uint8 [h, w, 3], mask uint8 [h, w]."""
    alpha = cv2.merge((mask, mask, mask))
    kept = cv2.multiply(image, cv2.bitwise_not(alpha), scale=1 / 255)
    # cv2 takes a four-channel scalar; multiplying the mask by it saves a full-size paint layer
    paint = cv2.multiply(alpha, (*colour, 0), scale=1 / 255)  # type: ignore[call-overload]
    cv2.add(kept, paint, dst=image)


def flat(height: int, width: int, colour: tuple[int, int, int]) -> Array:
    """One colour, uint8 [height, width, 3]; much faster than numpy's broadcast of 3 channels."""
    return cv2.resize(np.array([[colour]], np.uint8), (width, height))


def soft_field(rnd: Random, height: int, width: int, low: float, high: float) -> Array:
    """Slowly varying light, uint8 [height, width, 3] where 128 stands for a factor of 1."""
    rows, columns = rnd.randint(2, 4), rnd.randint(2, 5)
    grid = np.empty((rows, columns, 1), np.float32)
    for i in range(rows):
        for j in range(columns):
            grid[i, j] = 128 * rnd.uniform(low, high)
    colour = np.repeat(np.clip(grid, 0, 255), 3, axis=2).astype(np.uint8)
    return cv2.resize(colour, (width, height), interpolation=cv2.INTER_LINEAR)
