"""The photographic stage: where the camera stood and what its sensor made of the plate."""

from __future__ import annotations

from random import Random

import cv2
import numpy as np

from training.synthetic.arrays import Array
from training.synthetic.textures import blend, cut


def photograph(rnd: Random, image: Array, boxes: Array, quad: Array) -> tuple[Array, Array, Array]:
    """Take a picture of a flat plate.

    Args:
        image: uint8 [H, W, 3] RGB; boxes float32 [L, 4]; quad float32 [4, 2], px of image.

    Returns:
        The photographed crop with boxes and quad in its own pixels.
    """
    # One budget for the whole picture: most are good, and few are bad in every respect at once.
    harm = rnd.random() ** 1.5
    image, boxes, quad = _view(rnd, image, boxes, quad, harm)
    image = _obstruct(rnd, image)
    image = _light(rnd, image, harm)
    image = _lens(rnd, image, harm)
    return _sensor(rnd, image, harm), boxes, quad


def _view(
    rnd: Random, image: Array, boxes: Array, quad: Array, harm: float
) -> tuple[Array, Array, Array]:
    plate_h = float(np.linalg.norm(quad[3] - quad[0]))
    smallest = 22 if quad[1, 0] - quad[0, 0] > 2.5 * plate_h else 40  # two lines need more
    wanted = smallest + (120 - smallest) * (1 - harm) ** 2 * rnd.uniform(0.5, 1.0)
    scale = wanted / plate_h
    strength = rnd.choice((0.01, 0.03, 0.05, 0.1))
    target = quad.copy()
    side = np.array([np.linalg.norm(quad[1] - quad[0]), plate_h])
    for i in range(4):
        target[i] += [rnd.gauss(0, strength * 0.35) * side[0], rnd.gauss(0, strength) * side[1]]
    angle = np.deg2rad(rnd.gauss(0, 4))
    squeeze = rnd.uniform(0.75, 1.1)
    centre = target.mean(axis=0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    target = ((target - centre) @ turn.T * [squeeze, 1.0]) * scale
    low, high = target.min(axis=0), target.max(axis=0)
    tight = rnd.random()
    spread = (-0.01, 0.03) if tight < 0.3 else (0.0, 0.12) if tight < 0.8 else (0.05, 0.22)
    pad = [rnd.uniform(*spread) * (high - low)[i % 2] for i in range(4)]
    target = (target - low + [pad[0], pad[1]]).astype(np.float32)
    size = np.maximum(8, np.round(high - low + [pad[0] + pad[2], pad[1] + pad[3]])).astype(int)
    matrix = cv2.getPerspectiveTransform(quad.astype(np.float32), target)
    if scale < 0.7:  # shrink first, so that the warp does not alias
        image = cv2.blur(image, (max(1, round(0.7 / scale)),) * 2)
    if rnd.random() < 0.1:
        image, boxes = _bend(rnd, image, boxes)
    out = cv2.warpPerspective(
        image, matrix, (int(size[0]), int(size[1])), borderMode=cv2.BORDER_REPLICATE
    )
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 1, 2)
    moved = cv2.perspectiveTransform(corners, matrix).reshape(-1, 4, 2)
    moved_boxes = np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)
    limit = np.array([size[0], size[1], size[0], size[1]], np.float32)
    return out, np.clip(moved_boxes, 0, limit).astype(np.float32), target


def _bend(rnd: Random, image: Array, boxes: Array) -> tuple[Array, Array]:
    """A plate that follows a curved bumper: every column moves up or down along a parabola."""
    height, width = image.shape[:2]
    depth = rnd.uniform(-0.1, 0.1) * height
    columns = np.arange(width, dtype=np.float32)
    rise = depth * ((2 * columns / width - 1) ** 2 - 0.33)
    map_x = np.tile(columns, (height, 1))
    map_y = np.arange(height, dtype=np.float32)[:, None] - rise[None, :]
    bent = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    middle = np.clip((boxes[:, 0] + boxes[:, 2]) / 2, 0, width - 1).astype(int)
    boxes = boxes.copy()
    boxes[:, 1::2] += rise[middle, None]
    return bent, boxes


def _obstruct(rnd: Random, image: Array) -> Array:
    """Things in front of the plate: tow hooks, cables, twigs, snow. They may touch characters."""
    height, width = image.shape[:2]
    look = rnd.random()
    if look < 0.03:  # snow or mud, from below or above
        edge = cut(rnd, "cloud", height, width, rnd.uniform(0.2, 0.5)).astype(np.float32)
        ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None]
        ramp = ramp if rnd.random() < 0.6 else 1 - ramp
        cover = np.clip((edge - 128) * 3 + (ramp - rnd.uniform(0.7, 0.95)) * 900, 0, 255)
        colour = (228, 230, 236) if rnd.random() < 0.6 else (92, 78, 60)
        image = image.copy()
        blend(image, cover.astype(np.uint8), colour)
    elif look < 0.07:  # one thing at the edge or across
        image = image.copy()
        shade = rnd.randint(0, 90)
        x = rnd.randrange(width)
        if rnd.random() < 0.5:
            at = (x, height - round(rnd.uniform(0, 0.12) * height))
            cv2.circle(image, at, max(2, round(height * rnd.uniform(0.06, 0.16))), (shade,) * 3, -1)
        else:
            end = (x + round(rnd.gauss(0, 0.3) * width), height)
            thick = max(1, round(height * rnd.uniform(0.01, 0.03)))
            cv2.line(image, (x, 0), end, (shade,) * 3, thick, cv2.LINE_AA)
    return image


def _light(rnd: Random, image: Array, harm: float) -> Array:
    pixels = image.astype(np.float32)
    look = rnd.random()
    if look < 0.15:  # night or low contrast
        pixels = pixels * rnd.uniform(0.25, 0.7) + rnd.uniform(0, 40)
    elif look < 0.25:  # overexposed
        pixels = pixels * rnd.uniform(1.2, 1.8) + rnd.uniform(0, 30)
    elif look < 0.4:  # haze
        pixels = pixels * rnd.uniform(0.35, 0.7) + rnd.uniform(60, 120)
    else:
        pixels = pixels * rnd.uniform(0.7, 1.15) + rnd.uniform(-20, 20)
    if rnd.random() < 0.5:
        pixels *= np.array([rnd.uniform(0.82, 1.12) for _ in range(3)], np.float32)
    if rnd.random() < 0.04:  # a sensor without its infrared filter: everything turns pink
        pixels = pixels * np.array([1.1, 0.7, 0.8], np.float32) + np.array([25, 0, 10], np.float32)
    if rnd.random() < 0.14:  # infrared
        grey = pixels @ np.array([0.5, 0.3, 0.2], np.float32)
        pixels = np.repeat(grey[:, :, None], 3, axis=2)
    if rnd.random() < 0.08:  # glare
        height, width = image.shape[:2]
        spot: Array = np.zeros((height, width), np.float32)
        at = (rnd.randrange(width), rnd.randrange(height))
        cv2.circle(spot, at, max(2, round(height * rnd.uniform(0.1, 0.4))), (1.0,), -1)
        spot = cv2.GaussianBlur(spot, (0, 0), height * 0.15)
        pixels += spot[:, :, None] * rnd.uniform(60, 200)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _lens(rnd: Random, image: Array, harm: float) -> Array:
    height = image.shape[0]
    look = rnd.random()
    if look < 0.35:
        return cv2.GaussianBlur(
            image, (0, 0), max(0.25, height * (0.002 + 0.026 * harm * rnd.random()))
        )
    if look < 0.55:
        length = max(2, round(height * (0.015 + 0.09 * harm * rnd.random())))
        kernel = np.zeros((length, length), np.float32)
        angle = rnd.gauss(0, 0.4) if rnd.random() < 0.7 else rnd.uniform(0, 3.14)
        dx, dy = np.cos(angle) * length / 2, np.sin(angle) * length / 2
        middle = (length - 1) / 2
        start = (round(middle - dx), round(middle - dy))
        cv2.line(kernel, start, (round(middle + dx), round(middle + dy)), (1.0,), 1)
        return cv2.filter2D(image, -1, kernel / max(kernel.sum(), 1.0))
    return image


def _sensor(rnd: Random, image: Array, harm: float) -> Array:
    height, width = image.shape[:2]
    if rnd.random() < 0.6:
        grain = cut(rnd, "grain", height, width, rnd.choice((1.0, 1.0, 1.7)))
        amount = 0.02 + 0.25 * harm * rnd.random()
        noise = cv2.merge((grain, grain, grain))
        image = cv2.addWeighted(image, 1.0, noise, amount, -128 * amount)
    if rnd.random() < 0.7:
        quality = round(94 - 74 * harm * rnd.random())
        ok, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if ok:
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return image
