"""Region files: typed, and strict about keys. See `regions/README.md` for what each key means."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from lprnet.errors import LprnetError
from training.synthetic.grammar import Alphabet, parse

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REGIONS_DIR = Path(__file__).parent / "regions"
GROUPS = ("europe", "us", "rest")


class RegionError(LprnetError):
    """A region file that cannot be read, or a region that does not exist."""


@dataclass(frozen=True)
class Band:
    """A coloured band across the plate's end, or its top (`side = "top"`)."""

    side: str = "left"
    mm: float = 42.0
    colour: str = "euro"
    mark: str = "stars"  # stars, none, gb, or flag:COLOUR,COLOUR[,COLOUR] (upright: flagv:)
    text: str = ""
    text_colour: str = "white"
    chance: float = 1.0
    share: float = 1.0  # of the plate's height, from the top; negative: from the bottom


@dataclass(frozen=True)
class Decor:
    """Something printed that is not serial; positions and sizes are shares of the plate."""

    kind: str  # text, sticker, line, box, blob, strip
    at: Sequence[float]  # centre x, y
    h: float = 0.12
    w: float = 0.0  # text: greatest width (0 = 0.9); others: width
    text: Sequence[str] = ()
    colour: Sequence[str] = ("black",)
    fill: Sequence[str] = ("white",)
    font: str = "caption"
    chance: float = 1.0


@dataclass(frozen=True)
class Style:
    """One kind of plate of a region. Lengths in millimetres on the real plate."""

    size_mm: Sequence[float]
    serials: Mapping[str, float]
    weight: float = 1.0
    colours: Mapping[str, float] = field(default_factory=lambda: {"white/black": 1.0})
    fonts: Mapping[str, float] = field(default_factory=lambda: {"sans": 1.0})
    char_mm: Sequence[float] = (44.0, 75.0)  # width of a full-width character, height
    char2_mm: Sequence[float] = ()  # bottom line, where it differs
    pitch: str = "proportional"  # or "mono": every character in a cell of the same width
    gap_mm: float = 8.0
    space_mm: float = 24.0
    seal_mm: float = 38.0
    seal: str = "none"
    small: float = 0.5  # height of small characters as a share of the full height
    inset_mm: Sequence[float] = (6.0, 4.0, 6.0, 4.0)  # left, top, right, bottom of the serial's area
    top_inset_mm: Sequence[float] = (0.0, 0.0)  # further insets of the top line
    row_y: Sequence[float] = ()  # centres of the lines as shares of the height
    align: str = "center"  # or "spread", "left"
    rim_mm: float = 3.0
    rim_inset_mm: float = 2.0
    round_mm: float = 8.0
    holes: str = "none"  # none, two (left and right), us (four slots)
    bands: Sequence[Band] = ()
    decor: Sequence[Decor] = ()
    scene: str = "plain"  # plain, fade, hills, waves, stripes, or any
    emboss: float = 0.7
    frame: float = 0.25  # chance of a dealer's frame


@dataclass(frozen=True)
class Region:
    """A region file."""

    code: str
    name: str
    group: str
    weight: float
    alphabet: Alphabet
    styles: Mapping[str, Style]


_T = TypeVar("_T")


def load_region(path: Path) -> Region:
    """Read one region file.

    Raises:
        RegionError: not TOML, an unknown or missing key, or a value out of place.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise RegionError(f"region file {path}: {error}") from error
    known = {"code", "name", "group", "weight", "letters", "digits", "lists", "defaults", "styles"}
    _reject_unknown(path, "region", raw, known)
    missing = {"code", "name", "group", "styles"} - raw.keys()
    if missing:
        raise RegionError(f"region file {path}: missing {', '.join(sorted(missing))}")
    if raw["group"] not in GROUPS:
        raise RegionError(f"region file {path}: group must be one of {', '.join(GROUPS)}")
    alphabet = Alphabet(
        raw.get("letters", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        raw.get("digits", "0123456789"),
        {key: _words(value) for key, value in raw.get("lists", {}).items()},
    )
    defaults = raw.get("defaults", {})
    styles = {}
    for name, table in raw["styles"].items():
        style = _make(path, f"style {name}", Style, {**defaults, **table})
        for pattern in style.serials:
            parse(pattern, alphabet)
        styles[name] = style
    return Region(
        raw["code"], raw["name"], raw["group"], float(raw.get("weight", 1.0)), alphabet, styles
    )


def load_regions(folder: Path = REGIONS_DIR) -> dict[str, Region]:
    """All region files of a folder by region code."""
    regions = {}
    for path in sorted(folder.glob("*.toml")):
        region = load_region(path)
        if region.code in regions:
            raise RegionError(f"region file {path}: code {region.code} is defined twice")
        regions[region.code] = region
    if not regions:
        raise RegionError(f"no region files (*.toml) in {folder}")
    return regions


def _words(value: str | list[str]) -> list[str]:
    return value.split() if isinstance(value, str) else list(value)


def _reject_unknown(path: Path, where: str, table: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise RegionError(
            f"region file {path}: {where}: unknown key {', '.join(unknown)} "
            f"(known: {', '.join(sorted(known))})"
        )


def _make(path: Path, where: str, kind: type[_T], table: Mapping[str, Any]) -> _T:
    _reject_unknown(path, where, table, {f.name for f in fields(kind)})  # type: ignore[arg-type]
    values = dict(table)
    for key, part in (("bands", Band), ("decor", Decor)):
        if key in values:
            values[key] = tuple(
                _make(path, f"{where}: {key}", part, entry) for entry in values[key]
            )
    for key in ("serials", "colours", "fonts"):
        if isinstance(values.get(key), list):
            values[key] = dict.fromkeys(values[key], 1.0)
    for key in ("text", "colour", "fill"):
        if kind is Decor and isinstance(values.get(key), str):
            values[key] = (values[key],)
    try:
        return kind(**values)
    except TypeError as error:
        raise RegionError(f"region file {path}: {where}: {error}") from error
