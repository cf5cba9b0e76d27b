#!/usr/bin/env python3
"""Draw the pictures of samples/ anew: the same seed and generator give the same files.

They are synthetic, so that no real plate is in the repository, and clean enough to be read by
eye; they show that everything works together and measure nothing. Fonts as for `lprnet synth`
(scripts/fetch_fonts.sh).

Examples:
    python scripts/make_samples.py
    python scripts/make_samples.py --out out/samples --seed 5
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from lprnet.errors import LprnetError
from training.synthetic.generator import PlateGenerator
from training.synthetic.plate import SyntheticPlate

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("file", "text", "region", "lines")
ONE_LINE = (
    *("DE", "FR", "PL", "ES", "NL", "GB", "CZ", "HR", "SE", "PT", "RO", "TR", "BR", "UA"),
    *("US-NY", "US-CA", "US-TX", "US-WA"),
)
TWO_LINES = ("DE", "PL", "CZ", "AT", "GB", "IN")
JPEG_QUALITY = 90
MIN_CHARACTER_PX = 18  # of the shortest character: legible by eye
MIN_CONTRAST = 110  # between the 5th and the 95th percentile of the plate's gray levels
MIN_SHARPNESS = 400  # variance of the Laplacian
LOOKALIKES = frozenset("OIQ")  # on many plates nobody can tell them from 0 and 1
TRIES = 500


def legible(plate: SyntheticPlate) -> bool:
    """Whether a person reads it without effort."""
    heights = plate.char_boxes[:, 3] - plate.char_boxes[:, 1]
    gray = cv2.cvtColor(plate.image, cv2.COLOR_RGB2GRAY)
    left, top = plate.char_boxes[:, :2].min(axis=0).astype(int)
    right, bottom = plate.char_boxes[:, 2:].max(axis=0).astype(int)
    low, high = np.percentile(gray[max(top, 0) : bottom, max(left, 0) : right], (5, 95))
    sharpness = cv2.Laplacian(gray, cv2.CV_64F).var()
    return bool(
        not LOOKALIKES & set(plate.text)
        and heights.min() >= MIN_CHARACTER_PX
        and high - low >= MIN_CONTRAST
        and sharpness >= MIN_SHARPNESS
    )


def draw(generator: PlateGenerator, region: str, lines: int, seed: int) -> SyntheticPlate:
    """First legible plate of a region with that many lines."""
    rng = np.random.default_rng([seed, lines, *region.encode()])
    for _ in range(TRIES):
        plate = generator.sample(rng, region)
        if plate.rows == lines and legible(plate):
            return plate
    raise LprnetError(f"{TRIES} plates of {region} without a legible one of {lines} lines")


def main() -> int:
    """Write samples/."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "samples", help="default: samples/")
    parser.add_argument("--seed", type=int, default=2026, help="default: %(default)s")
    parser.add_argument("--fonts", type=Path, help="folder of fonts instead of the usual ones")
    args = parser.parse_args()
    wanted = [(region, 1) for region in ONE_LINE] + [(region, 2) for region in TWO_LINES]
    rows = ["\t".join(COLUMNS)]
    try:
        generator = PlateGenerator(args.fonts)
        args.out.mkdir(parents=True, exist_ok=True)
        for region, lines in wanted:
            plate = draw(generator, region, lines, args.seed)
            name = f"{region.lower()}{'-two-lines' if lines == 2 else ''}.jpg"
            picture = cv2.cvtColor(plate.image, cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(args.out / name), picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            rows.append(f"{name}\t{plate.text}\t{region}\t{lines}")
    except LprnetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    (args.out / "labels.tsv").write_text("\n".join(rows) + "\n", encoding="ascii")
    print(f"{len(wanted)} pictures in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
