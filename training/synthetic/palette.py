"""Named plate colours, RGB 0..255, as they look in daylight."""

from __future__ import annotations

from random import Random

Colour = tuple[int, int, int]

PALETTE: dict[str, Colour] = {
    "white": (232, 232, 228), "cream": (236, 228, 200), "silver": (196, 198, 200),
    "grey": (150, 152, 154), "darkgrey": (84, 86, 90), "black": (26, 26, 30),
    "yellow": (244, 200, 36), "gold": (226, 156, 44), "paleyellow": (240, 222, 120),
    "orange": (236, 120, 30), "red": (186, 34, 40), "brightred": (216, 48, 44),
    "maroon": (118, 28, 40), "pink": (232, 170, 180), "brown": (110, 70, 40),
    "green": (20, 116, 66), "darkgreen": (18, 70, 46), "lime": (150, 200, 70),
    "palegreen": (196, 226, 196), "mint": (120, 190, 160), "blue": (32, 70, 160),
    "euro": (18, 66, 160), "navy": (26, 36, 84), "steel": (72, 104, 150),
    "skyblue": (120, 170, 220), "paleblue": (196, 216, 236), "purple": (92, 50, 120),
    "teal": (20, 120, 130), "chrome": (190, 192, 196),
}  # fmt: skip


def tinted(rnd: Random, name: str, spread: int = 12) -> Colour:
    """A palette colour as one batch of sheet metal has it."""
    red, green, blue = PALETTE[name]
    light = 1.0 + rnd.uniform(-0.08, 0.06)
    return (
        _clip(red * light + rnd.uniform(-spread, spread)),
        _clip(green * light + rnd.uniform(-spread, spread)),
        _clip(blue * light + rnd.uniform(-spread, spread)),
    )


def anything(rnd: Random) -> Colour:
    """A random colour, muted more often than not."""
    value = rnd.uniform(20, 235)
    chroma = rnd.uniform(0, 60) if rnd.random() < 0.7 else rnd.uniform(0, 150)
    return (
        _clip(value + rnd.uniform(-chroma, chroma)),
        _clip(value + rnd.uniform(-chroma, chroma)),
        _clip(value + rnd.uniform(-chroma, chroma)),
    )


def _clip(value: float) -> int:
    return int(min(255.0, max(0.0, value)))
