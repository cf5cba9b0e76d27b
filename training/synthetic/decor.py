"""Everything on a plate that is not serial: bands, flags, captions, stickers, screws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from random import Random

import cv2
import numpy as np

from training.synthetic.arrays import Array
from training.synthetic.fonts import FontLibrary
from training.synthetic.palette import Colour, anything, tinted
from training.synthetic.seals import draw_emblem
from training.synthetic.spec import Band, Decor
from training.synthetic.textures import blend
from training.synthetic.words import dealer_line, word_lists


def draw_band(
    image: Array, band: Band, library: FontLibrary, rnd: Random, px_per_mm: float
) -> None:
    """A band at the left, right or top edge of the plate, in place."""
    height, width = image.shape[:2]
    size = int(band.mm * px_per_mm)
    y0, y1 = (
        (0, int(height * band.share))
        if band.share > 0
        else (int(height * (1 + band.share)), height)
    )
    x0, x1 = (width - size, width) if band.side == "right" else (0, size)
    if band.side == "top":
        x0, y0, x1, y1 = 0, 0, width, size
    part = image[y0:y1, x0:x1]
    part[:] = tinted(rnd, band.colour, 16)
    high, wide = part.shape[:2]
    text_colour = tinted(rnd, band.text_colour)
    if band.mark.startswith("flag"):
        kind, _, names = band.mark.partition(":")
        stripes = [tinted(rnd, name) for name in names.split(",")]
        flag_h, flag_w = max(3, int(min(high * 0.34, wide * 0.55))), max(4, int(wide * 0.74))
        top, left = int(high * 0.12), (wide - flag_w) // 2
        for i, stripe in enumerate(stripes):
            a, b = i / len(stripes), (i + 1) / len(stripes)
            if kind == "flagv":
                part[top : top + flag_h, left + int(a * flag_w) : left + int(b * flag_w)] = stripe
            else:
                part[top + int(a * flag_h) : top + int(b * flag_h), left : left + flag_w] = stripe
    elif band.mark == "stars":
        radius = min(wide * 0.34, high * 0.2)
        centre = (wide / 2, high * 0.3)
        gold = tinted(rnd, "yellow")
        for i in range(12):
            angle = i * math.pi / 6
            at = (
                round(centre[0] + radius * math.cos(angle)),
                round(centre[1] + radius * math.sin(angle)),
            )
            cv2.circle(part, at, max(1, round(radius * 0.12)), gold, -1, cv2.LINE_AA)
    elif band.mark == "gb":
        part[int(high * 0.15) : int(high * 0.4), int(wide * 0.2) : int(wide * 0.8)] = tinted(
            rnd, "red"
        )
    if band.text:
        y = 0.74 if band.side != "top" else 0.5
        put_text(
            part, band.text, library, rnd, "caption", (0.5, y),
            min(0.24 if band.side != "top" else 0.6, 0.62 * wide / max(high, 1)), 0.78, text_colour,
        )  # fmt: skip


def put_text(
    image: Array,
    text: str,
    library: FontLibrary,
    rnd: Random,
    family: str,
    at: Sequence[float],
    h: float,
    greatest_w: float,
    colour: Colour,
) -> None:
    """A caption centred at `at` (shares of the image), `h` its height as a share."""
    fonts = library.fonts(family)
    mask = library.caption(fonts[rnd.randrange(len(fonts))], text)
    height, width = image.shape[:2]
    high = max(3, round(h * height))
    wide = round(mask.shape[1] * high / mask.shape[0])
    limit = max(3, int((greatest_w if greatest_w > 0 else 0.9) * width))
    wide = max(3, min(wide, limit))
    small = cv2.resize(mask, (wide, high), interpolation=cv2.INTER_AREA)
    x, y = round(at[0] * width - wide / 2), round(at[1] * height - high / 2)
    left, top = max(0, x), max(0, y)
    right, bottom = min(width, x + wide), min(height, y + high)
    if right > left and bottom > top:
        part = image[top:bottom, left:right]
        blend(part, np.ascontiguousarray(small[top - y : bottom - y, left - x : right - x]), colour)


def draw_decor(
    image: Array,
    item: Decor,
    lists: Mapping[str, Sequence[str]],
    library: FontLibrary,
    rnd: Random,
) -> None:
    """One decoration, in place."""
    if rnd.random() >= item.chance:
        return
    height, width = image.shape[:2]
    x, y = item.at[0] * width, item.at[1] * height
    half_w, half_h = item.w * width / 2, item.h * height / 2
    colour = tinted(rnd, rnd.choice(item.colour))
    fill = tinted(rnd, rnd.choice(item.fill))
    box = ((round(x - half_w), round(y - half_h)), (round(x + half_w), round(y + half_h)))
    if item.kind in ("sticker", "box", "strip"):
        cv2.rectangle(image, *box, fill, -1)
        if item.kind == "box":
            cv2.rectangle(image, *box, colour, max(1, round(height * 0.015)))
    elif item.kind == "line":
        cv2.rectangle(image, *box, colour, -1)
    elif item.kind == "blob":
        draw_emblem(image, (x, y), (half_w, half_h), rnd, fill)
    if item.text:
        text = caption_text(rnd.choice(item.text), lists, rnd)
        inner = 0.66 if item.kind in ("sticker", "box", "strip") else 1.0
        put_text(
            image, text, library, rnd, item.font, item.at, item.h * inner,
            item.w * 0.88 if item.w > 0 else 0.9, colour,
        )  # fmt: skip


def caption_text(text: str, lists: Mapping[str, Sequence[str]], rnd: Random) -> str:
    """Fill in {dealer}, {month}, {mm}, {yy}, {yyyy}, {##...} and the region's lists."""
    if "{" not in text:
        return text
    month = rnd.randint(1, 12)
    year = rnd.randint(2003, 2026)
    values: dict[str, Callable[[], str]] = {
        "{dealer}": lambda: dealer_line(rnd),
        "{month}": lambda: word_lists()["months"][month - 1],
        "{mm}": lambda: f"{month:02d}",
        "{yy}": lambda: f"{year % 100:02d}",
        "{yyyy}": lambda: str(year),
        "{number}": lambda: str(rnd.randint(10000, 9999999)),
    }
    for key, make in values.items():
        if key in text:
            text = text.replace(key, make())
    for key, entries in lists.items():
        if f"{{{key}}}" in text:
            text = text.replace(f"{{{key}}}", rnd.choice(list(entries)))
    return text


def draw_separator(
    mask: Array, kind: str, box: tuple[float, float, float, float], stroke: float
) -> None:
    """A dash, dot or bullet in the ink mask; box in px of the plate."""
    x, y, w, h = box
    cx, cy = x + w / 2, y + h / 2
    dot_px, bullet_px = max(1, round(stroke * 0.6)), max(1, round(stroke * 0.75))
    if kind == "-":
        half = max(1.0, stroke * 0.5)
        cv2.rectangle(
            mask, (round(x + 0.12 * w), round(cy - half)), (round(x + 0.82 * w), round(cy + half)),
            (255,), -1,
        )  # fmt: skip
    elif kind == ".":
        cv2.circle(mask, (round(cx), round(y + h - stroke * 0.6)), dot_px, (255,), -1)
    elif kind == ":":
        cv2.circle(mask, (round(cx), round(cy)), bullet_px, (255,), -1, cv2.LINE_AA)


def draw_holes(image: Array, kind: str, rnd: Random) -> None:
    """Screws, bolts or their holes."""
    height, width = image.shape[:2]
    if kind == "us":
        spots = [(x, y) for x in (0.2, 0.8) for y in (0.075, 0.925)]
    else:
        inset = rnd.uniform(0.03, 0.25)
        spots = [(inset, 0.5), (1 - inset, 0.5)] if kind == "two" else []
        if spots and height > width / 2 and rnd.random() < 0.6:  # two lines: room elsewhere too
            high = rnd.uniform(0.04, 0.3)
            corners = [(x, y) for x in (inset, 1 - inset) for y in (high, 1 - high)]
            middles = [(0.5, high / 2), (0.5, 1 - high / 2)]
            spots = rnd.choice((corners, corners[:2], corners[2:], middles))
    radius = max(1, round(min(height, width) * rnd.uniform(0.018, 0.034)))
    look = rnd.random()
    colour = (
        tinted(rnd, "black") if look < 0.45
        else tinted(rnd, "silver") if look < 0.85
        else anything(rnd)
    )  # fmt: skip
    for x, y in spots:
        if rnd.random() < 0.85:
            at = (round(x * width), round(y * height))
            cv2.circle(image, at, radius, colour, -1, cv2.LINE_AA)
            cv2.circle(image, at, radius + 1, tinted(rnd, "darkgrey"), 1, cv2.LINE_AA)
