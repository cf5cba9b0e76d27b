"""Pictures that the load is made of: real crops where there are some, else the samples.

A set is a folder in TAO's layout, `image/NAME.jpg` with `label/NAME.txt`. Sets are looked for in
the folder that the environment variable LPRNET_DATA names, under val/.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lprnet.charset import normalise_text
from lprnet.errors import LprnetError
from lprnet.image import load_crop

ROOT: Final = Path(__file__).resolve().parents[1]
DATA_VARIABLE: Final = "LPRNET_DATA"
DEFAULT_DATA: Final = ROOT.parent / "shared" / "data"
SAMPLES: Final = ROOT / "samples"
SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
SEED: Final = 20_240_613


@dataclass(frozen=True)
class Picture:
    """One crop of a plate.

    Attributes:
        name: file name.
        data: the encoded file.
        label: its text, normalised; None where nobody wrote it down.
    """

    name: str
    data: bytes
    label: str | None


@dataclass(frozen=True)
class PictureSet:
    """What a measurement reads.

    Attributes:
        source: where the pictures come from, for the report.
        pictures: in an order that is the same in every run.
    """

    source: str
    pictures: tuple[Picture, ...]

    @property
    def files(self) -> list[bytes]:
        """The encoded files."""
        return [picture.data for picture in self.pictures]

    def crops(self) -> npt.NDArray[np.uint8]:
        """UINT8 [N, 3, 48, 96] RGB, 0..255: what `lpr` takes."""
        return np.stack([load_crop(picture.data) for picture in self.pictures])

    @property
    def mean_bytes(self) -> int:
        """Mean size of a file."""
        return sum(map(len, self.files)) // len(self.pictures)


def find_pictures(count: int, folder: Path | None = None) -> PictureSet:
    """At most `count` pictures, drawn with a fixed seed.

    Args:
        count: 1 or more.
        folder: a labelled set or any folder of pictures; None: the sets of LPRNET_DATA, or the
            samples where that names nothing.

    Raises:
        LprnetError: when the folder holds no pictures or cannot be read.
    """
    try:
        return _find(count, folder)
    except OSError as error:
        raise LprnetError(
            f"cannot read {error.filename or 'pictures'}: {error.strerror}"
        ) from error


def _find(count: int, folder: Path | None) -> PictureSet:
    if folder is not None:
        return _draw(_label_and_files(folder), count, str(folder))
    data = Path(os.environ.get(DATA_VARIABLE, DEFAULT_DATA))
    found = [pair for each in sorted(data.glob("val/*/")) for pair in _label_and_files(each)]
    if found:
        return _draw(found, count, "real plates, " + ", ".join(_names(data)))
    return _draw(_samples(), count, "the samples")


def _names(data: Path) -> list[str]:
    return sorted(f"val/{folder.name}" for folder in data.glob("val/*/"))


def _draw(found: Sequence[tuple[Path, str | None]], count: int, source: str) -> PictureSet:
    if not found:
        raise LprnetError(f"no pictures in {source}: give a folder of JPEG, PNG, WebP or BMP files")
    chosen = list(found)
    random.Random(SEED).shuffle(chosen)
    pictures = (
        Picture(path.name, path.read_bytes(), None if label is None else normalise_text(label))
        for path, label in chosen[:count]
    )
    return PictureSet(source, tuple(pictures))


def _label_and_files(folder: Path) -> list[tuple[Path, str | None]]:
    image = folder / "image"
    pairs: list[tuple[Path, str | None]] = []
    for path in sorted((image if image.is_dir() else folder).iterdir()):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            label = folder / "label" / f"{path.stem}.txt"
            pairs.append((path, _text(label) if label.is_file() else None))
    return pairs


def _text(label: Path) -> str:
    try:
        return label.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise LprnetError(f"{label} is no UTF-8 text: {error.reason}") from error


def _samples() -> list[tuple[Path, str | None]]:
    rows = (SAMPLES / "labels.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [(SAMPLES / name, text) for name, text, *_ in (row.split("\t") for row in rows)]
