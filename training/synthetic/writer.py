"""Writes a synthetic set in TAO's layout, in parallel, the same for any number of workers."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lprnet.errors import LprnetError
from training.synthetic.generator import PlateGenerator
from training.synthetic.plate import SyntheticPlate

MANIFEST_COLUMNS = ("file", "text", "region", "source", "two_line_guess", "style")
_JPEG_QUALITY = 95
_CHUNK_PLATES = 32


@dataclass(frozen=True)
class SetRecipe:
    """Everything that decides a set's pictures.

    Attributes:
        seed: plate number i is drawn from the seed sequence (seed, i).
        regions: region codes, None = all by weight.
        photography: whether the photographic stage runs.
        fonts_dir: folder of fonts, None = the usual ones.
    """

    seed: int
    regions: tuple[str, ...] | None
    photography: bool
    fonts_dir: Path | None


@lru_cache(maxsize=1)
def _generator(recipe: SetRecipe) -> PlateGenerator:
    cv2.setNumThreads(1)
    return PlateGenerator(recipe.fonts_dir, recipe.regions, recipe.photography)


def draw(recipe: SetRecipe, number: int) -> SyntheticPlate:
    """Plate `number` of a set; it depends on nothing but the recipe and the number."""
    return _generator(recipe).sample(np.random.default_rng([recipe.seed, number]))


def write_set(out: Path, count: int, recipe: SetRecipe, workers: int) -> None:
    """Write image/, label/ and manifest.tsv.

    Raises:
        LprnetError: the folder exists and is not empty, or cannot be written.
    """
    _generator(recipe)  # bad fonts or regions are told before any file is made
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LprnetError(f"{out} exists and is not an empty folder: name a new one")
    try:
        (out / "image").mkdir(parents=True)
        (out / "label").mkdir()
    except OSError as error:
        raise LprnetError(f"cannot write {out}: {error.strerror}") from error
    jobs = ((out, recipe, number) for number in range(count))
    with (out / "manifest.tsv").open("w", encoding="utf-8") as manifest:
        manifest.write("\t".join(MANIFEST_COLUMNS) + "\n")
        rows = _run(jobs, workers)
        for row in tqdm(rows, total=count, unit="plate", disable=not sys.stderr.isatty()):
            manifest.write("\t".join(row) + "\n")


def _run(jobs: Iterator[tuple[Path, SetRecipe, int]], workers: int) -> Iterator[Sequence[str]]:
    if workers == 1:
        yield from map(_write_one, jobs)
        return
    # spawn: forked children would inherit OpenCV's and torch's thread pools
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_write_one, jobs, chunksize=_CHUNK_PLATES)


def _write_one(job: tuple[Path, SetRecipe, int]) -> Sequence[str]:
    out, recipe, number = job
    plate = draw(recipe, number)
    name = f"synth_{number:07d}"
    picture = cv2.cvtColor(plate.image, cv2.COLOR_RGB2BGR)
    path = out / "image" / f"{name}.jpg"
    if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]):
        raise LprnetError(f"cannot write {path}")
    (out / "label" / f"{name}.txt").write_text(plate.text + "\n", encoding="ascii")
    two_lines = str(int(plate.rows == 2))
    return (f"image/{name}.jpg", plate.text, plate.region, "synthetic", two_lines, plate.style)


def require_picture_name(path: Path) -> None:
    """See before plates are drawn that a preview can be written under its name.

    Raises:
        LprnetError: when it names no kind of picture.
    """
    if not cv2.haveImageWriter(str(path)):
        raise LprnetError(f"cannot write {path}: use a name that ends in .png or .jpg")


def write_preview(path: Path, out: Path, count: int, columns: int = 8, rows: int = 12) -> None:
    """A contact sheet of the first pictures of a written set, labels below.

    Raises:
        LprnetError: when it cannot be written.
    """
    require_picture_name(path)
    cell_w, cell_h, line_h = 220, 110, 18
    shown = min(count, columns * rows)
    used_rows = -(-shown // columns)
    sheet = np.full((used_rows * (cell_h + line_h), columns * cell_w, 3), 40, np.uint8)
    entries = (out / "manifest.tsv").read_text(encoding="utf-8").splitlines()[1 : shown + 1]
    for index, entry in enumerate(entries):
        file, text, region = entry.split("\t")[:3]
        picture = cv2.imread(str(out / file))
        if picture is None:
            raise LprnetError(f"cannot read back {out / file}")
        scale = min((cell_w - 6) / picture.shape[1], cell_h / picture.shape[0])
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        picture = picture[:cell_h, : cell_w - 6]
        y, x = index // columns * (cell_h + line_h), index % columns * cell_w
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
        at = (x, y + cell_h + line_h - 5)
        cv2.putText(sheet, f"{region} {text}", at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 255, 255), 1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LprnetError(f"cannot write {path}: {error.strerror}") from error
    if not cv2.imwrite(str(path), sheet):
        raise LprnetError(f"cannot write {path}")
