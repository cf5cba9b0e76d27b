"""Fonts as plate dies: signed-distance glyphs that can be stretched, thinned and rounded.

A plate is stamped or printed from a set of dies, so one font must give many looks. Every glyph is
kept as a signed distance field cropped to its ink: drawing it at another width keeps the stroke
even (the field is recomputed for the stretched shape), and stroke weight is one addition.

Fonts are input, never part of the repository: `scripts/fetch_fonts.sh` fetches pinned free
packages into the cache folder that `default_font_dirs` names first.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lprnet.errors import LprnetError
from training.synthetic.arrays import Array

FONT_SUFFIXES = (".otf", ".ttf", ".woff")
FIELD_HEIGHT_PX = 80  # ink height of a stored field
FIELD_PAD_PX = 10  # room around the ink: the largest stroke growth plus the antialiased edge
# How much of an even stroke a squeezed glyph keeps: four strokes side by side must give way.
_STROKE_SHARES = {"M": 0.3, "W": 0.3, "N": 0.7}
_STROKED = {"Đ": "D", "Ł": "L", "Ø": "O", "Æ": "A"}
_STAND_INS = {"fe": "din"}  # nothing freely packaged looks like FE script
_RENDER_SCALE = 2  # fields are computed at this multiple and averaged down
FIELD_STEPS_PER_PX = 12  # stored value = 128 + 12 * distance, so that a field is one byte a pixel
_WIDTH_STEP = 0.05  # widths are rounded to this share of the height, so that fields are shared


def fold(char: str) -> str:
    """A letter without its diacritic, as plates are typed: Ü -> U, Đ -> D, Ø -> O."""
    return _STROKED.get(char, unicodedata.normalize("NFKD", char)[0])


class FontError(LprnetError):
    """No usable fonts were found, or a font file cannot be read."""


def default_font_dirs() -> list[Path]:
    """Folders searched for fonts: LPRNET_FONTS, or the cache plus a `shared/fonts` beside us."""
    configured = os.environ.get("LPRNET_FONTS")
    if configured:
        return [Path(part) for part in configured.split(os.pathsep) if part]
    repository = Path(__file__).resolve().parents[2]
    return [Path.home() / ".cache/lprnet/fonts", repository.parent / "shared/fonts"]


def find_fonts(folders: Sequence[Path]) -> dict[str, Path]:
    """Font files by stem in lower case, searched recursively.

    Raises:
        FontError: none of the folders holds a font.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        if folder.is_dir():
            for path in sorted(folder.rglob("*")):
                if path.suffix.lower() in FONT_SUFFIXES:
                    found.setdefault(path.stem.lower(), path)
    if not found:
        searched = ", ".join(str(folder) for folder in folders)
        raise FontError(
            f"no fonts (*.otf, *.ttf, *.woff) in {searched}: run scripts/fetch_fonts.sh, "
            "or name a folder of fonts with --fonts or LPRNET_FONTS"
        )
    return found


class FontLibrary:
    """Glyph fields and caption masks by font family, loaded on first use and kept."""

    def __init__(
        self, families: Mapping[str, Sequence[str]], folders: Sequence[Path] | None = None
    ) -> None:
        files = find_fonts(default_font_dirs() if folders is None else folders)
        self._families = {
            family: tuple(files[stem] for stem in stems if stem in files)
            for family, stems in families.items()
        }
        every = tuple(dict.fromkeys(f for fonts in self._families.values() for f in fonts))
        # A folder of somebody's own fonts works too: then each family is all of them.
        self._all = every if every else tuple(sorted(files.values()))
        self._fields: dict[tuple[Path, str, int], Array] = {}
        self._ratios: dict[tuple[Path, str], float] = {}
        self._inks: dict[tuple[Path, str], Array] = {}

    @property
    def files(self) -> tuple[Path, ...]:
        """Every font file that plates may be drawn with."""
        return self._all

    def fonts(self, family: str) -> tuple[Path, ...]:
        """Files of a family, else of its stand-in, else all fonts."""
        for name in (family, _STAND_INS.get(family, family)):
            if self._families.get(name):
                return self._families[name]
        return self._all

    def width_ratio(self, font: Path, char: str) -> float:
        """Ink width over ink height as the font draws it."""
        key = (font, char)
        if key not in self._ratios:
            ink = self._ink(font, char)
            self._ratios[key] = ink.shape[1] / ink.shape[0]
        return self._ratios[key]

    @lru_cache(maxsize=256)  # noqa: B019 - the library lives as long as the process
    def reference_ratio(self, font: Path) -> float:
        """Median width ratio of the font's upright full-width characters."""
        return float(np.median([self.width_ratio(font, c) for c in "BDEHKNPRSU0234568"]))

    @lru_cache(maxsize=256)  # noqa: B019
    def stroke_ratio(self, font: Path) -> float:
        """Width of the font's upright strokes over its height, as the font draws them."""
        ink = self._ink(font, "I")
        return float((ink[ink.shape[0] // 2] > 127).sum()) / ink.shape[0]

    def field(self, font: Path, char: str, width_ratio: float) -> Array:
        """Signed distance field of a glyph stretched to a width ratio.

        Returns:
            uint8 [FIELD_HEIGHT_PX + 2 pad, w + 2 pad]: 128 + FIELD_STEPS_PER_PX times the
            distance to the outline in field pixels, positive inside the ink.
        """
        step = max(2, round(width_ratio / _WIDTH_STEP))
        key = (font, char, step)
        found = self._fields.get(key)
        if found is None:
            ink = _keep_stroke(
                self._ink(font, char),
                self.stroke_ratio(font) * _STROKE_SHARES.get(char, 0.85),
                step * _WIDTH_STEP,
            )
            found = self._make_field(ink, step * _WIDTH_STEP)
            self._fields[key] = found
        return found

    def _ink(self, font: Path, char: str) -> Array:
        key = (font, char)
        if key not in self._inks:
            # Small font files lack some diacritics: then the bare letter is drawn.
            self._inks[key] = _tight_ink(font, char if _has(font, char) else fold(char))
        return self._inks[key]

    @staticmethod
    def _make_field(ink: Array, width_ratio: float) -> Array:
        height = FIELD_HEIGHT_PX * _RENDER_SCALE
        width = max(4, round(height * width_ratio))
        pad = FIELD_PAD_PX * _RENDER_SCALE
        shape = cv2.resize(ink, (width, height), interpolation=cv2.INTER_AREA)
        shape = cv2.copyMakeBorder(shape, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(0,))
        inside = (shape > 127).astype(np.uint8)
        distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3) - cv2.distanceTransform(
            1 - inside, cv2.DIST_L2, 3
        )
        size = (shape.shape[1] // _RENDER_SCALE, shape.shape[0] // _RENDER_SCALE)
        small = cv2.resize(distance, size, interpolation=cv2.INTER_AREA)
        return np.clip(128 + small * (FIELD_STEPS_PER_PX / _RENDER_SCALE), 0, 255).astype(np.uint8)

    @lru_cache(maxsize=4096)  # noqa: B019
    def caption(self, font: Path, text: str) -> Array:
        """Mask of a whole line of text, uint8 [h, w], about 32 px high, cropped to the ink."""
        return _tight_ink(font, text, size_px=44)


@lru_cache(maxsize=512)
def _load(font: Path, size_px: int) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(str(font), size_px)
    except OSError as error:
        raise FontError(f"cannot read font {font}: {error}") from error


def _keep_stroke(ink: Array, stroke_ratio: float, width_ratio: float) -> Array:
    """Grow or thin upright strokes so that stretching to a width ratio leaves them even.

    A plain stretch would halve the uprights of a glyph squeezed to half its width and leave its
    level strokes as they were: no die looks like that.
    """
    height, width = ink.shape
    stroke_px = stroke_ratio * height
    change_px = stroke_px * (width / height / width_ratio - 1.0)
    change_px = min(stroke_px * 1.2, max(-stroke_px * 0.45, change_px))
    size = round(abs(change_px)) + 1
    if size < 2 or width < 1.6 * stroke_px:  # a bare stem is all stroke
        return ink
    kernel = np.ones((1, size), np.uint8)
    if change_px < 0:
        return _crop_columns(cv2.erode(ink, kernel))
    ink = cv2.copyMakeBorder(ink, 0, 0, size, size, cv2.BORDER_CONSTANT, value=(0,))
    return _crop_columns(cv2.dilate(ink, kernel))


def _crop_columns(ink: Array) -> Array:
    columns = np.flatnonzero(ink.max(axis=0) > 60)
    return ink[:, columns[0] : columns[-1] + 1] if columns.size else ink


@lru_cache(maxsize=2048)
def _has(font: Path, char: str) -> bool:
    """Whether a font draws a character with something other than its "missing" box."""
    if char.isascii():
        return True
    face = _load(font, 40)
    missing = face.getmask("\U0010fffd")
    drawn = face.getmask(char)
    return drawn.getbbox() is not None and bytes(drawn) != bytes(missing)


def _tight_ink(font: Path, text: str, size_px: int = 220) -> Array:
    """Text drawn white on black and cropped to its ink, uint8 [h, w]."""
    face = _load(font, size_px)
    left, top, right, bottom = (int(v) for v in face.getbbox(text))
    image = Image.new("L", (max(1, right - left) + 8, max(1, bottom - top) + 8), 0)
    ImageDraw.Draw(image).text((4 - left, 4 - top), text, font=face, fill=255)
    pixels = np.asarray(image)
    rows = np.flatnonzero(pixels.max(axis=1) > 60)
    columns = np.flatnonzero(pixels.max(axis=0) > 60)
    if rows.size == 0:
        raise FontError(f"font {font} draws nothing for {text!r}")
    return np.ascontiguousarray(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
