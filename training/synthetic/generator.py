"""`PlateGenerator`: regions by weight, a style, a serial, a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final

import numpy as np

from lprnet.charset import DEFAULT_CHARSET, Charset
from training.synthetic.fonts import FontLibrary
from training.synthetic.grammar import Token, expand, parse, text_of
from training.synthetic.photo import photograph
from training.synthetic.plate import SyntheticPlate
from training.synthetic.render import pick, render_flat
from training.synthetic.spec import (
    GROUPS,
    Region,
    RegionError,
    Style,
    load_families,
    load_regions,
)

DEFAULT_MIX: Mapping[str, float] = {"europe": 0.55, "us": 0.25, "rest": 0.20}
_PROBES: Final = 1_000
"""Serials drawn to see whether a charset can write the plates of a choice of regions."""
_MIN_WRITABLE: Final = 10
"""Of those; with fewer, one plate would take hundreds of draws and all would look alike."""
_MAX_DRAWS: Final = 10_000
"""Serials drawn for one plate: far beyond any that `_MIN_WRITABLE` leaves to chance."""


class PlateGenerator:
    """Draws plates. Holds only caches, so that the same `rng` state gives the same plate.

    Args:
        fonts_dir: folder of fonts (searched recursively); default: `fonts.default_font_dirs`.
        regions: codes to draw from, default all. "US" stands for all US states.
        photography: whether `sample` runs the photographic stage (camera geometry and sensor).
        mix: share of each group (europe, us, rest); inside a group each region file's own weight.
        charset: plates that it cannot write are drawn again; None = every plate is wanted.

    Raises:
        FontError: no fonts. RegionError: an unknown region code or group, or a charset that can
            write hardly any plate of the regions.
    """

    def __init__(
        self,
        fonts_dir: Path | None = None,
        regions: Sequence[str] | None = None,
        photography: bool = True,
        mix: Mapping[str, float] | None = None,
        charset: Charset | None = None,
    ) -> None:
        self.photography = photography
        families = load_families()
        self._library = FontLibrary(families, None if fonts_dir is None else [Path(fonts_dir)])
        self._regions = _select(load_regions(), regions)
        self._weights = _mixed(self._regions, DEFAULT_MIX if mix is None else mix)
        self._codes = list(self._weights)
        self._shares = list(self._weights.values())
        self._missing = frozenset(() if charset is None else undrawable(charset))
        if self._missing:
            self._require_writable()

    @property
    def region_weights(self) -> dict[str, float]:
        """Probability of each region code; they sum to 1."""
        return dict(self._weights)

    @property
    def regions(self) -> dict[str, Region]:
        """The regions that this generator draws from."""
        return dict(self._regions)

    def sample(self, rng: np.random.Generator, region: str | None = None) -> SyntheticPlate:
        """Draw one plate.

        Args:
            rng: the only source of chance; advanced by exactly one draw.
            region: a region code, default drawn by weight.

        Raises:
            RegionError: a region that this generator does not have, or one whose plates the
                charset cannot write.
        """
        if region is not None and region not in self._regions:
            raise RegionError(f"unknown region {region!r}: have {', '.join(sorted(self._regions))}")
        rnd = Random(int(rng.integers(2**63)))
        for _ in range(_MAX_DRAWS):
            entry, style_name, tokens = self._draw(rnd, region)
            if self._writable(tokens):
                return self._render(rnd, entry, style_name, tokens)
        raise RegionError(f"the charset can write no plate of {region or 'these regions'}")

    def _draw(self, rnd: Random, code: str | None) -> tuple[Region, str, list[Token]]:
        """Region, name of the style and serial of one plate: all but its picture."""
        if code is None:
            code = rnd.choices(self._codes, self._shares)[0]
        region = self._regions[code]
        style_name = pick(rnd, {name: style.weight for name, style in region.styles.items()})
        return region, style_name, draw_serial(region, region.styles[style_name], rnd)

    def _writable(self, tokens: Sequence[Token]) -> bool:
        return self._missing.isdisjoint(text_of(tokens))

    def _require_writable(self) -> None:
        rnd = Random(0)
        writable = sum(self._writable(self._draw(rnd, None)[2]) for _ in range(_PROBES))
        if writable < _MIN_WRITABLE:
            raise RegionError(
                f"a charset without {''.join(sorted(self._missing))} can write {writable} of "
                f"{_PROBES:,} drawn plates: set data.real_share=1.0, or choose other regions "
                "(data.synthetic_regions)"
            )

    def _render(
        self, rnd: Random, region: Region, style_name: str, tokens: list[Token]
    ) -> SyntheticPlate:
        style = region.styles[style_name]
        flat = render_flat(rnd, region, style, tokens, self._library)
        image, boxes, quad = flat.image, flat.boxes, flat.quad
        if self.photography:
            image, boxes, quad = photograph(rnd, image, boxes, quad)
        rows = np.array([token.row for token in tokens if token.kind == "char"], np.uint8)
        return SyntheticPlate(
            image=image,
            text=text_of(tokens),
            region=region.code,
            style=style_name,
            rows=int(rows.max()) + 1,
            char_boxes=boxes,
            char_rows=rows,
            plate_quad=quad,
        )


def undrawable(charset: Charset) -> str:
    """Characters of drawn plates that a charset cannot write; drawn plates hold A-Z and 0-9."""
    return "".join(c for c in DEFAULT_CHARSET.characters if c not in charset)


def draw_serial(region: Region, style: Style, rnd: Random) -> list[Token]:
    """Tokens of one serial of a style."""
    pattern = pick(rnd, dict(style.serials))
    return expand(_steps(region.code, pattern, region), region.alphabet, rnd)


_parsed: dict[tuple[str, str], list[tuple[str, str]]] = {}


def _steps(code: str, pattern: str, region: Region) -> list[tuple[str, str]]:
    key = (code, pattern)
    if key not in _parsed:
        _parsed[key] = parse(pattern, region.alphabet)
    return _parsed[key]


def _select(regions: dict[str, Region], wanted: Sequence[str] | None) -> dict[str, Region]:
    if wanted is None:
        return regions
    chosen: dict[str, Region] = {}
    for code in wanted:
        found = {c: r for c, r in regions.items() if c == code or c.startswith(code + "-")}
        if not found:
            raise RegionError(f"unknown region {code!r}: have {', '.join(sorted(regions))}")
        chosen.update(found)
    return chosen


def _mixed(regions: Mapping[str, Region], mix: Mapping[str, float]) -> dict[str, float]:
    unknown = sorted(set(mix) - set(GROUPS))
    if unknown:
        raise RegionError(f"unknown group {', '.join(unknown)}: have {', '.join(GROUPS)}")
    totals: dict[str, float] = {}
    for region in regions.values():
        totals[region.group] = totals.get(region.group, 0.0) + region.weight
    weights = {
        code: mix.get(region.group, 0.0) * region.weight / totals[region.group]
        for code, region in regions.items()
    }
    total = sum(weights.values())
    if total <= 0:
        raise RegionError("the mix leaves no region with a weight above zero")
    return {code: weight / total for code, weight in weights.items()}
