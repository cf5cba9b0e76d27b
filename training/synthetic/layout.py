"""Where each character stands: tokens and a style become boxes in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from training.synthetic.fonts import FontLibrary
from training.synthetic.grammar import Token
from training.synthetic.spec import Style


@dataclass(frozen=True)
class Placed:
    """A token with its box on the plate, millimetres from the plate's top left corner."""

    token: Token
    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True)
class Die:
    """How one plate's characters are cut: the same for all characters of the plate."""

    font: Path
    weight: float  # stroke growth in field pixels, negative = thinner
    soften: int  # side of the box filter that rounds corners, 1 = none
    shear: float
    widen: float  # factor on the style's character width
    uniform: float  # 0 = the font's own proportions, 1 = all full-width characters equally wide


_NARROW = "I1"
_STEM_SHARE = 1.6  # a glyph narrower than this many strokes is nothing but a stem


def char_width(
    library: FontLibrary, die: Die, char: str, full_mm: float, height_mm: float
) -> float:
    """Ink width of a character in mm on a plate whose full-width characters have `full_mm`."""
    own = library.width_ratio(die.font, char)
    if own < _STEM_SHARE * library.stroke_ratio(die.font):
        return own * height_mm  # a bare stem is as wide as a stroke, however narrow the rest
    share = own / library.reference_ratio(die.font)
    if char in _NARROW:
        return full_mm * min(0.8, share)
    return full_mm * float(share ** (1.0 - die.uniform))


def place(
    tokens: Sequence[Token], style: Style, die: Die, library: FontLibrary, rnd: Random
) -> list[Placed]:
    """Boxes of all drawn tokens, in the order of the tokens."""
    rows = 1 + max(token.row for token in tokens)
    loose = style.align == "spread"
    spread = rnd.uniform(0.5, 1.0) if loose else max(0.0, rnd.uniform(-0.6, 0.6))
    left, top, right, bottom = style.inset_mm
    width, height = style.size_mm
    placed: list[Placed] = []
    for row in range(rows):
        char_w, char_h = style.char2_mm if row == 1 and style.char2_mm else style.char_mm
        if style.row_y:
            centre_y = style.row_y[min(row, len(style.row_y) - 1)] * height
        else:
            centre_y = top + (height - top - bottom) * (row + 0.5) / rows
        extra = style.top_inset_mm if row == 0 else (0.0, 0.0)
        x0, x1 = left + extra[0], width - right - extra[1]
        line = [token for token in tokens if token.row == row]
        placed += _place_line(
            line, style, die, library, rnd, spread, (x0, x1, centre_y, char_w * die.widen, char_h)
        )
    return placed


def _place_line(
    line: Sequence[Token],
    style: Style,
    die: Die,
    library: FontLibrary,
    rnd: Random,
    spread: float,
    room: tuple[float, float, float, float, float],
) -> list[Placed]:
    x0, x1, centre_y, char_w, char_h = room
    mono = style.pitch == "mono"
    widths: list[float] = []  # ink widths
    advances: list[float] = []  # what the pen moves on, gap included
    for index, token in enumerate(line):
        scale = style.small if token.size != "full" else 1.0
        if token.kind == "char":
            ink = char_width(library, die, token.glyph, char_w, char_h) * scale
            cell = max(ink, char_w * scale) if mono else ink
            advance = cell + style.gap_mm * (scale if scale < 1 else 1.0)
            if token.size == "upper":
                advance = 0.0  # the lower one of the pair moves the pen
            elif token.size == "lower":
                above = widths[index - 1]
                advance = max(ink, above) + style.gap_mm * scale
        elif token.kind == "!":
            ink = style.seal_mm if style.seal != "none" else 0.0
            advance = max(ink, style.space_mm * 0.5) + style.gap_mm
        else:
            share = {" ": 1.0, "-": 1.0, ".": 0.45, ":": 0.7, "~": 0.4, "_": 0.0}[token.kind]
            ink = style.space_mm * share
            advance = ink
        widths.append(ink)
        advances.append(advance)
    total = sum(advances) - style.gap_mm
    room_mm = x1 - x0
    squeeze = min(1.0, room_mm / max(total, 1.0))
    slack = max(0.0, room_mm - total * squeeze)
    if spread > 0 and slack > 0:
        advances = _spread(line, advances, slack * spread, char_w)
        slack = max(0.0, room_mm - (sum(advances) - style.gap_mm))
    fills = [index for index, token in enumerate(line) if token.kind == "_"]
    for index in fills:
        advances[index] += slack / len(fills)
        slack = 0.0
    pen = x0 + slack * (0.5 + rnd.uniform(-0.12, 0.12))
    if style.align == "left":
        pen = x0
    pen_y = centre_y + rnd.uniform(-0.015, 0.015) * char_h
    placed = []
    for token, ink, advance in zip(line, widths, advances, strict=True):
        ink_w = ink * squeeze
        x = pen
        if token.kind == "char" and mono and token.size == "full":
            x = pen + max(0.0, (char_w * squeeze - ink_w) / 2)
        high, y = _vertical(token, style.small, char_h, pen_y)
        placed.append(Placed(token, x, y, ink_w, high))
        pen += advance * squeeze
    return placed


def _spread(
    line: Sequence[Token], advances: Sequence[float], room: float, char_w: float
) -> list[float]:
    """Give free room to the gaps, most of it to those between groups."""
    weights = [
        0.0 if advance <= 0 else 0.6 if token.kind == "char" else 4.0
        for token, advance in zip(line, advances, strict=True)
    ]
    weights[-1] = 0.0
    # wide gaps stand between groups; inside a group characters stay together
    unit = min(room / max(sum(weights), 1e-6), 0.3 * char_w)
    return [advance + unit * weight for advance, weight in zip(advances, weights, strict=True)]


def _vertical(token: Token, small: float, char_h: float, centre: float) -> tuple[float, float]:
    """Height and top of a token on a line."""
    top = centre - char_h / 2
    if token.size == "full":
        return char_h, top
    high = char_h * small
    if token.size == "upper":
        return min(high, char_h * 0.47), top
    if token.size == "lower":
        high = min(high, char_h * 0.47)
    return high, top + char_h - high
