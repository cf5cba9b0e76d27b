"""What a camera and a detector do to a plate: one warp, then photometry, in OpenCV.

Every function takes the random generator first and draws from it alone, so that a crop is fixed
by its seed. Pictures are UINT8 [H, W, 3] RGB, 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from lprnet.image import UInt8Array
from lprnet.plate_spec import INPUT_HEIGHT_PX, INPUT_WIDTH_PX

Points = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """How strong and how often. Probabilities are per crop, 0..1.

    Attributes:
        rotation_deg: standard deviation of the rotation.
        wide_rotation: probability of a rotation drawn from -20..20 degrees instead.
        perspective: corner shift, standard deviation as a share of the plate's side.
        margin_tight, margin_loose: bounds of the crop's margin as a share of the plate's side.
        tight: probability of a crop inside the plate, which may shave its outer characters.
        low_resolution, blur, motion, noise, jpeg, tone, colour, gray, invert, shadow, occlusion,
        glare: probabilities.
    """

    rotation_deg: float = 2.5
    wide_rotation: float = 0.25
    perspective: float = 0.03
    margin_tight: float = -0.02
    margin_loose: float = 0.36
    tight: float = 0.2
    low_resolution: float = 0.25
    blur: float = 0.18
    motion: float = 0.12
    noise: float = 0.4
    jpeg: float = 0.25
    tone: float = 0.6
    colour: float = 0.3
    gray: float = 0.15
    invert: float = 0.03
    shadow: float = 0.15
    occlusion: float = 0.06
    glare: float = 0.06


# Deepest cut of a tight crop, across and down, as a share of the plate. Characters begin at 2-5 %
# across and 15 % down; a real crop may be cut already.
_TIGHT_DRAWN = (0.06, 0.11)
_TIGHT_REAL = (0.02, 0.05)

DEFAULT_AUGMENTATION = Augmentation()
NO_AUGMENTATION = Augmentation(
    **dict.fromkeys(Augmentation.__dataclass_fields__, 0.0)  # every strength and probability off
)


def corners(image: UInt8Array) -> Points:
    """Corners of a whole picture, FP32 [4, 2] x, y: top left, top right, bottom right, left."""
    height, width = image.shape[:2]
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)


def view_transform(
    rng: np.random.Generator,
    quad: Points,
    settings: Augmentation,
    *,
    own_margin: bool,
    keep: npt.NDArray[np.float64] | None = None,
) -> npt.NDArray[np.float64]:
    """Homography [3, 3] from a picture's pixels to the crop 0..1 x 0..1.

    The plate in `quad` is turned and put in perspective, its bounding box is cut out with random
    margins, as a detector does.

    Args:
        quad: plate corners in the picture, FP32 [4, 2].
        own_margin: the quad is a detector's box (a real crop), not the bare plate.
        keep: x, y in the picture [K, 2] that stay inside a crop, however tight.
    """
    width = float(np.linalg.norm(quad[1] - quad[0]) + np.linalg.norm(quad[2] - quad[3])) / 2
    height = float(np.linalg.norm(quad[3] - quad[0]) + np.linalg.norm(quad[2] - quad[1])) / 2
    if rng.random() < settings.wide_rotation:
        angle = rng.uniform(-20, 20)
    else:
        angle = rng.normal(0, settings.rotation_deg)
    radians = np.deg2rad(angle)
    size = np.array([width, height])
    flat = (np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) - 0.5) * size
    flat += np.clip(rng.normal(0, settings.perspective, (4, 2)), -0.1, 0.1) * size
    flat[:, 0] += rng.normal(0, settings.perspective) * flat[:, 1]  # shear of a side view
    turn = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    target = flat @ turn.T
    low, high = target.min(axis=0), target.max(axis=0)
    # Most detectors are about right: the square keeps wide margins rare. A wide crop is wide on
    # most sides, so the sides share one draw. A real crop brings a margin of its own.
    span = settings.margin_loose - settings.margin_tight
    looseness = rng.random() ** 2 * span * (0.75 if own_margin else 1.0)
    margin = settings.margin_tight + looseness * rng.uniform(0.4, 1.4, (2, 2))
    if rng.random() < settings.tight:
        deepest = np.array(_TIGHT_REAL if own_margin else _TIGHT_DRAWN)
        margin = rng.uniform(-deepest, 0.01, (2, 2))
    size = high - low
    low, high = low - margin[0] * size, high + margin[1] * size
    if keep is not None and len(keep):
        flat_view = cv2.getPerspectiveTransform(quad.astype(np.float32), target.astype(np.float32))
        spots = np.c_[keep, np.ones(len(keep))] @ flat_view.T
        spots = spots[:, :2] / spots[:, 2:]
        low, high = np.minimum(low, spots.min(axis=0)), np.maximum(high, spots.max(axis=0))
    unit = (target - low) / (high - low)
    return cast(
        npt.NDArray[np.float64],
        cv2.getPerspectiveTransform(quad.astype(np.float32), unit.astype(np.float32)),
    )


def cut_out(
    rng: np.random.Generator,
    image: UInt8Array,
    transform: npt.NDArray[np.float64],
    settings: Augmentation,
) -> UInt8Array:
    """Sample the crop UINT8 [48, 96, 3]; sometimes through a smaller sensor first."""
    height, width = INPUT_HEIGHT_PX, INPUT_WIDTH_PX
    if rng.random() < settings.low_resolution:
        scale = rng.uniform(0.35, 0.9)
        height, width = max(12, round(height * scale)), max(28, round(width * scale))
    scaled = np.diag([width, height, 1.0]) @ transform
    # What lies beyond the picture: its edge drawn out, or paint of one colour.
    border = cv2.BORDER_REPLICATE if rng.random() < 0.6 else cv2.BORDER_CONSTANT
    paint = rng.integers(0, 256) * rng.uniform(0.6, 1.0, 3) * rng.uniform(0.3, 1.0)
    crop = cv2.warpPerspective(
        image,
        scaled,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=border,
        borderValue=paint.tolist(),
    )
    if (height, width) != (INPUT_HEIGHT_PX, INPUT_WIDTH_PX):
        how = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
        crop = cv2.resize(crop, (INPUT_WIDTH_PX, INPUT_HEIGHT_PX), interpolation=how)
    return cast(UInt8Array, crop)


def photograph(rng: np.random.Generator, crop: UInt8Array, settings: Augmentation) -> UInt8Array:
    """Light, lens, sensor and compression on a crop UINT8 [48, 96, 3]."""
    draw = rng.random(11)
    if draw[0] < settings.shadow:
        crop = _shadow(rng, crop)
    if draw[1] < settings.glare:
        crop = _glare(rng, crop)
    if draw[2] < settings.occlusion:
        crop = _occlude(rng, crop)
    if draw[3] < settings.motion:
        crop = _motion_blur(rng, crop)
    if draw[4] < settings.blur:
        sigma = rng.uniform(0.4, 1.5)
        crop = cast(UInt8Array, cv2.GaussianBlur(crop, (0, 0), sigma))
    if draw[5] < settings.gray:
        gray = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
        crop = np.repeat(gray[:, :, np.newaxis], 3, axis=2).astype(np.uint8)
    if draw[6] < settings.tone or draw[7] < settings.colour:
        crop = _tone(rng, crop, colour=bool(draw[7] < settings.colour))
    if draw[8] < settings.invert:
        crop = np.bitwise_not(crop)
    if draw[9] < settings.noise:
        crop = _noise(rng, crop)
    if draw[10] < settings.jpeg:
        crop = _jpeg(rng, crop)
    return crop


def _shadow(rng: np.random.Generator, crop: UInt8Array) -> UInt8Array:
    height, width = crop.shape[:2]
    angle = rng.uniform(0, np.pi)
    offset = rng.uniform(-0.5, 0.5)
    softness = rng.uniform(0.02, 0.6)
    y, x = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j].astype(np.float32)
    ramp = (x * np.cos(angle) + y * np.sin(angle) - offset) / softness
    gain = 1 - rng.uniform(0.2, 0.75) * np.clip(ramp + 0.5, 0, 1)
    return cast(UInt8Array, (crop * gain[:, :, np.newaxis]).astype(np.uint8))


def _glare(rng: np.random.Generator, crop: UInt8Array) -> UInt8Array:
    height, width = crop.shape[:2]
    centre = rng.uniform(0, 1, 2) * (width, height)
    radius = rng.uniform(0.15, 0.6) * width
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / radius**2
    light = rng.uniform(40, 170) * np.exp(-2 * distance)
    return cast(UInt8Array, np.clip(crop + light[:, :, np.newaxis], 0, 255).astype(np.uint8))


def _occlude(rng: np.random.Generator, crop: UInt8Array) -> UInt8Array:
    crop = crop.copy()
    height, width = crop.shape[:2]
    if rng.random() < 0.5:  # a bar along an edge: frame, tow hook, bumper
        depth = int(rng.integers(1, 1 + height // 8))
        rows = slice(0, depth) if rng.random() < 0.5 else slice(height - depth, height)
        crop[rows] = rng.integers(0, 256, 3)
    else:  # a speck of dirt, never as large as a character
        size = rng.integers(2, 8, 2)
        at = rng.integers(0, (height - size[0], width - size[1]))
        crop[at[0] : at[0] + size[0], at[1] : at[1] + size[1]] = rng.integers(0, 256, 3)
    return crop


def _motion_blur(rng: np.random.Generator, crop: UInt8Array) -> UInt8Array:
    length = int(rng.integers(3, 8))
    angle = rng.uniform(0, np.pi)
    kernel = np.zeros((length, length), np.float32)
    middle = (length - 1) / 2
    reach = np.array([np.cos(angle), np.sin(angle)]) * middle
    start, end = (np.round([middle, middle] + sign * reach).astype(int) for sign in (-1, 1))
    cv2.line(kernel, start.tolist(), end.tolist(), (1.0,))
    return cast(UInt8Array, cv2.filter2D(crop, -1, kernel / kernel.sum()))


def _span(crop: UInt8Array) -> tuple[float, float]:
    """Dark and light end of a crop: 5th and 95th percentile of its brightness, 0..255."""
    dark, light = np.percentile(crop[::2, ::2].mean(axis=2), (5, 95))
    return float(dark), float(max(light, dark + 8))


def _tone(rng: np.random.Generator, crop: UInt8Array, *, colour: bool) -> UInt8Array:
    """Another exposure: the crop's span of brightness is laid on a random one.

    Spans are drawn rather than gains, so that hardly a crop ends up all black or all white.
    """
    dark, light = _span(crop)
    span = light - dark
    target_span = np.clip(span * np.exp(rng.normal(0, 0.45)), 28, 250)
    middle = rng.normal((dark + light) / 2, 35)
    clipping = 0.15 * target_span  # a blown highlight or a drowned shadow is part of life
    middle = np.clip(middle, target_span / 2 - clipping, 255 - target_span / 2 + clipping)
    gamma = np.exp(rng.normal(0, 0.25))
    level = np.clip((np.arange(256) - dark) / span, -0.5, 1.5)
    bent = np.sign(level) * np.abs(level) ** gamma
    table = middle + (bent[:, np.newaxis] - 0.5) * target_span
    table = table * (np.exp(rng.normal(0, 0.14, 3)) if colour else np.ones(3))
    table = np.clip(np.round(table), 0, 255).astype(np.uint8)
    return cast(UInt8Array, cv2.LUT(crop, table[np.newaxis]))


def _noise(rng: np.random.Generator, crop: UInt8Array) -> UInt8Array:
    dark, light = _span(crop)
    sigma = rng.uniform(0.01, 0.13) * (light - dark)  # what counts is noise against contrast
    channels = 1 if rng.random() < 0.3 else 3
    noise = rng.standard_normal((*crop.shape[:2], channels), dtype=np.float32) * np.float32(sigma)
    if rng.random() < 0.3:  # a demosaicked or denoised sensor leaves coarse grain
        noise = cv2.GaussianBlur(noise, (3, 3), 0).reshape(noise.shape) * np.float32(1.6)
    return np.clip(crop + noise, 0, 255).astype(np.uint8)


def _jpeg(rng: np.random.Generator, crop: UInt8Array) -> UInt8Array:
    quality = int(rng.integers(12, 80))
    done, data = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError("OpenCV could not encode a JPEG in memory")
    # Channels go in and come out in one order, so that RGB need not become BGR.
    return cast(UInt8Array, cv2.imdecode(data, cv2.IMREAD_COLOR))
