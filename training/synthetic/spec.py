"""Region files: typed, and strict about keys. See `regions/README.md` for what each key means."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from lprnet.errors import LprnetError
from training.synthetic.grammar import Alphabet, parse
from training.synthetic.palette import PALETTE
from training.synthetic.toml import TomlError, read_toml

REGIONS_DIR = Path(__file__).parent / "regions"
GROUPS = ("europe", "us", "rest")
SEALS = ("none", "german", "twin", "disc", "shield", "square", "bars", "map", "emblem")
SCENES = ("plain", "fade", "hills", "waves", "stripes", "any")
PITCHES = ("proportional", "mono")
ALIGNMENTS = ("center", "spread", "left")
HOLES = ("none", "two", "us")
SIDES = ("left", "right", "top")
MARKS = ("stars", "none", "gb", "flag", "flagv")
DECOR_KINDS = ("text", "sticker", "box", "strip", "line", "blob")


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
    inset_mm: Sequence[float] = (
        6.0,
        4.0,
        6.0,
        4.0,
    )  # left, top, right, bottom of the serial's area
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


_LENGTHS = {
    "size_mm": (2,), "char_mm": (2,), "char2_mm": (0, 2), "inset_mm": (4,), "top_inset_mm": (2,),
    "row_y": (0, 1, 2),
}  # fmt: skip
_T = TypeVar("_T")


@lru_cache(maxsize=1)
def load_families() -> dict[str, list[str]]:
    """Font families by look, from fonts.toml."""
    return dict(read_toml(Path(__file__).parent / "fonts.toml"))


def load_region(path: Path) -> Region:
    """Read one region file.

    Raises:
        RegionError: not TOML, an unknown or missing key, or a value out of place.
    """
    try:
        raw = read_toml(path)
    except TomlError as error:
        raise RegionError(f"region file: {error}") from error
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
        made = kind(**values)
    except TypeError as error:
        raise RegionError(f"region file {path}: {where}: {error}") from error
    for name, length in _LENGTHS.items():
        value = getattr(made, name, None)
        if isinstance(made, Style) and not (
            isinstance(value, (list, tuple)) and len(value) in length
        ):
            raise RegionError(
                f"region file {path}: {where}: {name}: {value!r} is not a list of "
                f"{' or '.join(map(str, length))} numbers"
            )
    for key, named, allowed in _names(made):
        if named not in allowed:
            known = ", ".join(sorted(allowed))
            raise RegionError(f"region file {path}: {where}: {key}: no {named!r} (have: {known})")
    return made


def _names(part: object) -> Iterator[tuple[str, str, Collection[str]]]:
    """Every value of a part that must be a known name: key, value, what is known."""
    if isinstance(part, Style):
        yield from (("seal", part.seal, SEALS), ("scene", part.scene, SCENES))
        yield from (("pitch", part.pitch, PITCHES), ("align", part.align, ALIGNMENTS))
        yield ("holes", part.holes, HOLES)
        yield from (("fonts", family, load_families()) for family in part.fonts)
        for names in part.colours:
            yield from (("colours", name, PALETTE) for name in names.split("/"))
    elif isinstance(part, Band):
        yield from (("side", part.side, SIDES), ("colour", part.colour, PALETTE))
        yield ("text_colour", part.text_colour, PALETTE)
        kind, _, stripes = part.mark.partition(":")
        yield ("mark", kind, MARKS)
        yield from (("mark", name, PALETTE) for name in stripes.split(",") if name)
    elif isinstance(part, Decor):
        yield from (("kind", part.kind, DECOR_KINDS), ("font", part.font, load_families()))
        yield from (("colour", name, PALETTE) for name in (*part.colour, *part.fill))
