"""Draw a labelled set of synthetic plates.

Writes TAO's layout (image/NAME.jpg, label/NAME.txt) and manifest.tsv. The same seed gives the
same files whatever the number of workers. Fonts come from scripts/fetch_fonts.sh or --fonts.

Examples:
    lprnet synth --out data/synth --count 10000 --seed 1
    lprnet synth --out data/de_pl --count 500 --regions DE,PL --preview sheet.png
    lprnet synth --out data/flat --count 500 --flat --workers 8
    lprnet synth --benchmark
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from lprnet.errors import LprnetError
from training.synthetic.benchmark import measure
from training.synthetic.writer import SetRecipe, require_picture_name, write_preview, write_set


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `lprnet synth`."""
    parser.add_argument("--out", type=Path, help="folder to write; must be new or empty")
    parser.add_argument("--count", type=int, default=1000, help="plates (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed, 0 or more (default 0)")
    parser.add_argument("--regions", help="comma-separated codes, e.g. DE,PL,US (default: all)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--flat", action="store_true", help="no camera: flat plates, loose crops")
    parser.add_argument("--fonts", type=Path, help="folder of fonts instead of the usual ones")
    parser.add_argument("--preview", type=Path, help="also write a contact sheet to this picture")
    parser.add_argument(
        "--benchmark", action="store_true", help="print plates per second on one core and stop"
    )


def run(args: argparse.Namespace) -> int:
    """Write a set, or measure the speed."""
    regions = None if args.regions is None else tuple(args.regions.split(","))
    if args.count < 1:
        raise LprnetError(f"--count must be at least 1, got {args.count}")
    if args.seed < 0:
        raise LprnetError(f"--seed must be 0 or more, got {args.seed}")
    if args.workers is None or args.workers < 1:
        raise LprnetError(f"--workers must be at least 1, got {args.workers}")
    if args.benchmark:
        for photography in (False, True):
            rate = measure(args.fonts, regions, photography, args.count)
            what = "photographed" if photography else "flat"
            print(f"{what}: {rate:.0f} plates/s on one core (caches warm, {args.count} plates)")
        return 0
    if args.out is None:
        raise LprnetError("name a folder with --out (or use --benchmark)")
    if args.preview is not None:
        require_picture_name(args.preview)
    recipe = SetRecipe(args.seed, regions, not args.flat, args.fonts)
    write_set(args.out, args.count, recipe, args.workers)
    print(f"{args.count} plates in {args.out}")
    if args.preview is not None:
        write_preview(args.preview, args.out, args.count)
        print(f"contact sheet in {args.preview}")
    return 0
