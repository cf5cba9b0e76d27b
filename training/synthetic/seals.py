"""Seals, coats and emblems: plausible blobs of the right size and place, nobody's arms."""

from __future__ import annotations

from random import Random

import cv2
import numpy as np

from training.synthetic.arrays import Array
from training.synthetic.palette import Colour, anything, tinted


def draw_seal(
    image: Array, kind: str, box: tuple[float, float, float, float], rnd: Random, ink: Colour
) -> None:
    """A seal, coat or emblem between characters; box in px of the plate."""
    x, y, w, h = box
    cx, cy = x + w / 2, y + h / 2
    if kind == "german":
        r = min(w / 2, h * 0.27)
        bright = rnd.choice(("orange", "blue", "yellow", "pink", "brown", "lime"))
        if rnd.random() < 0.85:
            _disc(image, (cx, y + r), r, tinted(rnd, bright), rnd)
        _disc(image, (cx, y + h - r * 1.15), r * 1.1, tinted(rnd, "silver"), rnd)
    elif kind == "twin":
        for share in (0.3, 0.68):
            _disc(image, (cx, y + h * share), w * 0.24, anything(rnd), rnd)
    elif kind == "disc":
        _disc(image, (cx, cy), min(w, h) * 0.42, tinted(rnd, "silver"), rnd)
    elif kind == "shield":
        _shield(image, (cx, cy), (w * 0.42, h * 0.36), rnd)
    elif kind == "bars":  # DC: two bars and three stars
        red = tinted(rnd, "red")
        for i in (0.5, 0.72):
            y0 = round(y + h * i)
            cv2.rectangle(
                image, (round(x + 0.1 * w), y0), (round(x + 0.9 * w), y0 + max(1, round(h * 0.12))),
                red, -1,
            )  # fmt: skip
        for i in (0.25, 0.5, 0.75):
            cv2.circle(
                image, (round(x + i * w), round(y + h * 0.34)), max(1, round(w * 0.08)), red, -1
            )
    elif kind == "map":
        _map(image, (cx, cy), (w * 0.45, h * 0.2), rnd, ink)
    elif kind == "emblem":
        draw_emblem(image, (cx, cy), (w * 0.48, h * 0.3), rnd, anything(rnd))
    elif kind == "square":
        s = min(w, h) * 0.22
        cv2.rectangle(
            image, (round(cx - s), round(cy - s * 1.3)), (round(cx + s), round(cy + s * 1.3)),
            tinted(rnd, "silver"), -1,
        )  # fmt: skip
        cv2.rectangle(
            image, (round(cx - s), round(cy - s * 1.3)), (round(cx + s), round(cy + s * 1.3)),
            tinted(rnd, rnd.choice(("grey", "skyblue", "pink"))), 1,
        )  # fmt: skip


def _disc(
    image: Array, at: tuple[float, float], radius: float, colour: Colour, rnd: Random
) -> None:
    centre = (round(at[0]), round(at[1]))
    r = max(2, round(radius))
    cv2.circle(image, centre, r, colour, -1, cv2.LINE_AA)
    cv2.circle(image, centre, r, tinted(rnd, "darkgrey"), 1, cv2.LINE_AA)
    inner = anything(rnd)
    cv2.circle(image, centre, max(1, round(r * rnd.uniform(0.3, 0.6))), inner, -1, cv2.LINE_AA)
    dx = round(r * rnd.uniform(-0.2, 0.2))
    cv2.ellipse(
        image, (centre[0] + dx, centre[1]), (max(1, r // 4), max(1, r // 3)), 0, 0, 360,
        anything(rnd), -1,
    )  # fmt: skip


def _shield(image: Array, at: tuple[float, float], half: tuple[float, float], rnd: Random) -> None:
    x, y = at
    w, h = half
    outline = [(-1, -1), (1, -1), (1, 0.2), (0.6, 0.7), (0, 1), (-0.6, 0.7), (-1, 0.2)]
    points = np.array([(round(x + a * w), round(y + b * h)) for a, b in outline], np.int32)
    first = tinted(rnd, rnd.choice(("red", "blue", "red", "white", "green", "yellow")))
    cv2.fillPoly(image, [points], first, cv2.LINE_AA)
    second = tinted(rnd, rnd.choice(("white", "yellow", "white", "blue")))
    for i in range(rnd.randint(1, 4)):
        y0 = y - h * 0.8 + i * h * 0.5
        x0 = x + rnd.uniform(-0.7, 0.1) * w
        cv2.rectangle(
            image, (round(x0), round(y0)), (round(x0 + w * 0.6), round(y0 + h * 0.22)), second, -1
        )
    cv2.polylines(image, [points], True, tinted(rnd, "grey"), 1, cv2.LINE_AA)


def _map(
    image: Array, at: tuple[float, float], half: tuple[float, float], rnd: Random, ink: Colour
) -> None:
    shape = [(-1, 0.3), (-0.7, -0.1), (-0.2, -0.1), (0.2, -0.8), (0.6, -1), (0.7, 0.2), (1, 0.8),
             (0.5, 0.6), (0.1, 0.25)]  # fmt: skip
    points = np.array(
        [
            (round(at[0] + (a + rnd.uniform(-0.1, 0.1)) * half[0]), round(at[1] + b * half[1]))
            for a, b in shape
        ],
        np.int32,
    )
    cv2.fillPoly(image, [points], ink, cv2.LINE_AA)


def draw_emblem(
    image: Array,
    at: tuple[float, float],
    half: tuple[float, float],
    rnd: Random,
    colour: Colour,
) -> None:
    """A few overlapping ovals of unlike colours."""
    for i in range(rnd.randint(2, 5)):
        shift = 0.0 if i == 0 else 0.45
        centre = (
            round(at[0] + rnd.uniform(-shift, shift) * half[0]),
            round(at[1] + rnd.uniform(-shift, shift) * half[1]),
        )
        axes = (
            max(1, round(half[0] * rnd.uniform(0.25, 0.8))),
            max(1, round(half[1] * rnd.uniform(0.25, 0.8))),
        )
        cv2.ellipse(image, centre, axes, rnd.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
        colour = anything(rnd)
