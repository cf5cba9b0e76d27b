"""One flat plate in its surroundings, from a region's style and a serial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import cv2
import numpy as np

from training.synthetic.arrays import Array
from training.synthetic.decor import draw_band, draw_decor, draw_holes, draw_separator
from training.synthetic.fonts import FIELD_HEIGHT_PX, FontLibrary
from training.synthetic.grammar import Token
from training.synthetic.ink import draw_characters, relief, wear
from training.synthetic.layout import Die, Placed, place
from training.synthetic.palette import Colour, anything, tinted
from training.synthetic.seals import draw_seal
from training.synthetic.spec import Region, Style
from training.synthetic.surround import draw_frame, make_surround
from training.synthetic.textures import above, blend, cut, flat, soft_field

_STRAY_FONT_CHANCE = 0.08
_STRAY_FAMILIES = ("fe", "din", "highway", "rounded", "condensed", "sans", "square")
_DIRT_COLOURS = ((96, 84, 66), (60, 56, 50), (130, 120, 100), (200, 200, 196))


@dataclass(frozen=True)
class FlatPlate:
    """A rendered picture with boxes float32 [L, 4] and corners float32 [4, 2] in its pixels."""

    image: Array
    boxes: Array
    quad: Array


def pick(rnd: Random, weights: dict[str, float] | Sequence[str]) -> str:
    """A key drawn by weight, or an entry of a list."""
    if not isinstance(weights, dict):
        return rnd.choice(weights)
    return rnd.choices(list(weights), list(weights.values()))[0]


def choose_die(rnd: Random, style: Style, library: FontLibrary) -> Die:
    """The characters' look for one plate."""
    # Makers and years differ more than any file says, so now and then any family will do.
    stray = rnd.random() < _STRAY_FONT_CHANCE
    wide = style.char_mm[0] / style.char_mm[1] > 0.5  # a slashed zero needs room
    families = (*_STRAY_FAMILIES, "slashed") if wide else _STRAY_FAMILIES
    fonts = library.fonts(rnd.choice(families) if stray else pick(rnd, dict(style.fonts)))
    font = fonts[rnd.randrange(len(fonts))]
    # Dies of all countries cut strokes of about an eighth of the height; fonts vary far more.
    # A narrow character bears no broad stroke, or its counters close.
    broadest = 0.15 * FIELD_HEIGHT_PX * style.char_mm[0] / style.char_mm[1]
    wanted = min(7.0, broadest, max(3.2, rnd.gauss(5.0, 0.8)))
    weight = rnd.uniform(0.4, 1.0) * (wanted - library.stroke_ratio(font) * FIELD_HEIGHT_PX / 2)
    soften = rnd.choice((1, 1, 1, 5, 7, 9))
    return Die(
        font=font,
        weight=min(3.0, max(-2.5, weight)) + 0.1 * (soften - 1),  # a soft edge eats the stroke
        soften=soften,
        shear=rnd.gauss(0, 0.03) if rnd.random() < 0.3 else 0.0,
        widen=rnd.uniform(0.92, 1.08),
        uniform=rnd.uniform(0.3, 1.0),
    )


def render_flat(
    rnd: Random, region: Region, style: Style, tokens: Sequence[Token], library: FontLibrary
) -> FlatPlate:
    """Draw a plate and what is around it."""
    mm_w, mm_h = style.size_mm
    wide = mm_w / mm_h > 2.5
    px_per_mm = (rnd.uniform(60, 104) if wide else rnd.uniform(80, 124)) / mm_h
    height, width = round(mm_h * px_per_mm), round(mm_w * px_per_mm)
    die = choose_die(rnd, style, library)
    placed = place(tokens, style, die, library, rnd)
    ground, ink, rim = _colours(rnd, style)
    plate = _ground(rnd, style, ground, height, width)
    for band in style.bands:
        if rnd.random() < band.chance:
            draw_band(plate, band, library, rnd, px_per_mm)
    for item in style.decor:
        draw_decor(plate, item, region.alphabet.lists, library, rnd)
    mask, boxes = draw_characters(placed, die, library, px_per_mm, (height, width))
    _draw_marks(plate, mask, placed, style, px_per_mm, rnd, ink)
    if rnd.random() < 0.15:
        mask = wear(
            mask, cut(rnd, rnd.choice(("dirt", "spots")), height, width), rnd.randint(205, 245)
        )
    blend(plate, mask, ink)
    _draw_rim(plate, style, px_per_mm, rim)
    if rnd.random() < style.emboss:
        relief(plate, mask, rnd, style.emboss)
    if style.holes != "none":
        draw_holes(plate, style.holes, rnd)
    elif rnd.random() < (0.25 if height > width / 2 else 0.08):
        draw_holes(plate, "two", rnd)
    _weather(rnd, plate)
    return _mount(rnd, style, plate, boxes, px_per_mm, library)


def _colours(rnd: Random, style: Style) -> tuple[Colour, Colour, Colour]:
    names = pick(rnd, dict(style.colours)).split("/")
    ground, ink = tinted(rnd, names[0]), tinted(rnd, names[1], 16)
    if rnd.random() < 0.2:  # faded ink
        fade = rnd.uniform(0.05, 0.45)
        ink = (
            int(ink[0] + fade * (ground[0] - ink[0])),
            int(ink[1] + fade * (ground[1] - ink[1])),
            int(ink[2] + fade * (ground[2] - ink[2])),
        )
    return ground, ink, tinted(rnd, names[2]) if len(names) > 2 else ink


def _ground(rnd: Random, style: Style, colour: Colour, height: int, width: int) -> Array:
    plate = flat(height, width, colour)
    scene = style.scene
    if scene == "any":
        scene = rnd.choice(("plain", "fade", "hills", "waves", "stripes"))
    if scene == "fade":
        other = _scenery(rnd, colour)
        top = np.linspace(1.0, 0.0, height, dtype=np.float32)[:, None] ** rnd.uniform(1, 3)
        if rnd.random() < 0.4:
            top = top[::-1]
        mask = np.repeat((top * 255 * rnd.uniform(0.4, 1)).astype(np.uint8), width, axis=1)
        blend(plate, np.ascontiguousarray(mask), other)
    elif scene in ("hills", "waves"):
        for _ in range(rnd.randint(1, 3)):
            base, swing = rnd.uniform(0.5, 0.95), rnd.uniform(0.03, 0.2)
            period, phase = rnd.uniform(1, 5), rnd.uniform(0, 6)
            xs = np.linspace(0, 1, 24)
            ys = base + swing * np.sin(xs * period * 3 + phase) * np.cos(xs * 7 + phase)
            points = np.stack([xs * width, ys * height], 1).astype(np.int32)
            points = np.vstack([points, [[width, height], [0, height]]]).astype(np.int32)
            layer = np.zeros((height, width), np.uint8)
            cv2.fillPoly(layer, [points], (rnd.randint(40, 190),), cv2.LINE_AA)
            blend(plate, layer, _scenery(rnd, colour))
    elif scene == "stripes":
        for _ in range(rnd.randint(1, 3)):
            y0 = rnd.uniform(0, 1) * height
            layer = np.zeros((height, width), np.uint8)
            high = int(rnd.uniform(0.05, 0.25) * height)
            cv2.rectangle(layer, (0, int(y0)), (width, int(y0) + high), rnd.randint(60, 220), -1)
            blend(plate, layer, anything(rnd))
    return plate


def _scenery(rnd: Random, ground: Colour) -> Colour:
    """A colour for pictures behind the serial: mostly near the ground's own lightness."""
    other = anything(rnd)
    share = rnd.uniform(0.2, 1.0) if rnd.random() < 0.3 else rnd.uniform(0.15, 0.5)
    r, g, b = (int(low + share * (high - low)) for low, high in zip(ground, other, strict=True))
    return r, g, b


def _draw_marks(
    plate: Array,
    mask: Array,
    placed: Sequence[Placed],
    style: Style,
    px_per_mm: float,
    rnd: Random,
    ink: Colour,
) -> None:
    stroke = style.char_mm[0] * 0.24 * px_per_mm
    for item in placed:
        box = (item.x * px_per_mm, item.y * px_per_mm, item.w * px_per_mm, item.h * px_per_mm)
        if item.token.kind == "!":
            draw_seal(plate, style.seal, box, rnd, ink)
        elif item.token.kind in "-.:":
            draw_separator(mask, item.token.kind, box, stroke)


def _draw_rim(plate: Array, style: Style, px_per_mm: float, colour: Colour) -> None:
    if style.rim_mm <= 0:
        return
    height, width = plate.shape[:2]
    thick = max(1, round(style.rim_mm * px_per_mm))
    inset = round(style.rim_inset_mm * px_per_mm) + thick // 2
    cv2.rectangle(plate, (inset, inset), (width - 1 - inset, height - 1 - inset), colour, thick)


def _weather(rnd: Random, plate: Array) -> None:
    """Dirt, scratches and stains on the plate, in place."""
    height, width = plate.shape[:2]
    if rnd.random() < 0.25:
        kind = rnd.choice(("dirt", "cloud", "cloud", "spots"))
        level = rnd.randint(120, 190)
        mask = above(
            cut(rnd, kind, height, width, rnd.uniform(0.7, 2)), level, rnd.uniform(0.8, 2.5)
        )
        blend(plate, mask, rnd.choice(_DIRT_COLOURS))
    if rnd.random() < 0.12:
        mask = cut(rnd, "scratches", height, width, rnd.uniform(0.8, 2))
        blend(plate, cv2.convertScaleAbs(mask, alpha=rnd.uniform(0.3, 0.9)), anything(rnd))


def _mount(
    rnd: Random,
    style: Style,
    plate: Array,
    boxes: Array,
    px_per_mm: float,
    library: FontLibrary,
) -> FlatPlate:
    height, width = plate.shape[:2]
    left, right = (round(rnd.uniform(0.08, 0.2) * width) for _ in range(2))
    top, bottom = (round(rnd.uniform(0.12, 0.3) * height) for _ in range(2))
    image = make_surround(rnd, height + top + bottom, width + left + right)
    box = (left, top, left + width, top + height)
    radius = min(height // 4, round(style.round_mm * px_per_mm))
    shape = np.zeros((height, width), np.uint8)
    cv2.rectangle(shape, (radius, 0), (width - radius, height), (255,), -1)
    cv2.rectangle(shape, (0, radius), (width, height - radius), (255,), -1)
    for x in (radius, width - 1 - radius):
        for y in (radius, height - 1 - radius):
            cv2.circle(shape, (x, y), radius, (255,), -1)
    if rnd.random() < 0.5:  # the plate's own shadow on the car
        offset = max(1, round(0.03 * height))
        image[top + offset : top + height + offset, left : left + width] //= 2
    cv2.copyTo(plate, shape, image[top : top + height, left : left + width])
    if rnd.random() < style.frame:
        draw_frame(image, box, px_per_mm, library, rnd, thick=style.holes == "us")
    image = cv2.multiply(
        image, soft_field(rnd, image.shape[0], image.shape[1], 0.75, 1.12), scale=1 / 128
    )
    if rnd.random() < 0.1:
        image = _hard_shadow(rnd, image)
    shift = np.float32([left, top])  # type: ignore[arg-type]
    quad = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) + shift
    return FlatPlate(image, boxes + np.tile(shift, 2), quad.astype(np.float32))


def _hard_shadow(rnd: Random, image: Array) -> Array:
    height, width = image.shape[:2]
    dark = np.full((height, width, 3), 128, np.uint8)
    a, b = rnd.uniform(-0.2, 1.2), rnd.uniform(-0.2, 1.2)
    if rnd.random() < 0.5:
        points = [(0, 0), (width, 0), (width, int(b * height)), (0, int(a * height))]
    else:
        points = [(0, 0), (int(a * width), 0), (int(b * width), height), (0, height)]
    level = rnd.randint(50, 95)
    cv2.fillPoly(dark, [np.array(points, np.int32)], (level, level, level))
    soft = rnd.choice((1, 3, 7))
    return cv2.multiply(image, cv2.blur(dark, (soft, soft)), scale=1 / 128)
