"""Labelled crops from the layouts that the field uses, as one list of records.

Layouts, told apart by what the folder holds:
- manifest: `manifest.tsv` with columns file, text and optionally region, source, two_line_guess,
  label_kind (wins over the others, since it says most);
- TAO: `image/NAME.jpg` and `label/NAME.txt`, one line of text (NVIDIA TAO LPRNet);
- nomeroff: `img/NAME.png` and `ann/NAME.json` with `description` (AUTO.RIA Numberplate OCR sets),
  also inside `train/`, `val/`, `test/`;
- folder: `TEXT.jpg`, `TEXT_2.jpg`, ...: the name up to the first underscore is the label.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lprnet.charset import normalise_text
from lprnet.errors import LprnetError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


class DatasetError(LprnetError):
    """A labelled set that cannot be read as one."""


@dataclass(frozen=True)
class Record:
    """One labelled crop.

    Attributes:
        path: the picture.
        text: label, upper case without separators or diacritics.
        region: e.g. "DE" or "US-NY"; "" where unknown.
        source: where it comes from, for balanced sampling and reports; the set's name if unknown.
        two_lines: whether the plate has two lines; None where unknown.
        trusted: False for a pseudo-label.
    """

    path: Path
    text: str
    region: str
    source: str
    two_lines: bool | None = None
    trusted: bool = True


def read_set(root: Path) -> list[Record]:
    """Records of a labelled set, in file order of its layout.

    Raises:
        DatasetError: when the folder is missing, of no known layout, empty or inconsistent.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is no folder: name a labelled set (TAO, nomeroff, manifest)")
    if (root / "manifest.tsv").is_file():
        records = list(_manifest(root))
    elif (root / "label").is_dir():
        records = list(_tao(root))
    elif (root / "ann").is_dir():
        records = list(_nomeroff(root))
    elif any((root / part / "ann").is_dir() for part in ("train", "val", "test")):
        parts = [root / p for p in ("train", "val", "test") if (root / p / "ann").is_dir()]
        records = [record for part in parts for record in _nomeroff(part)]
    else:
        records = list(_folder(root))
    if not records:
        raise DatasetError(
            f"{root} holds no labelled picture: expected manifest.tsv, image/ + label/, "
            "img/ + ann/ or files named TEXT.jpg"
        )
    return records


def _manifest(root: Path) -> Iterator[Record]:
    with (root / "manifest.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = {"file", "text"} - set(rows.fieldnames or ())
        if missing:
            raise DatasetError(f"{root}/manifest.tsv lacks the column(s) {sorted(missing)}")
        for row in rows:
            guess = row.get("two_line_guess") or ""
            yield Record(
                path=root / row["file"],
                text=normalise_text(row["text"]),
                region=row.get("region") or "",
                source=row.get("source") or root.name,
                two_lines=guess == "1" if guess in ("0", "1") else None,
                trusted=row.get("label_kind") != "P",
            )


def _pictures(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise DatasetError(f"{folder} is missing")
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            yield path


def _tao(root: Path) -> Iterator[Record]:
    for path in _pictures(root / "image"):
        label = root / "label" / f"{path.stem}.txt"
        if not label.is_file():
            raise DatasetError(f"{path.name} has no label: {label} is missing")
        text = normalise_text(label.read_text(encoding="utf-8").strip())
        yield Record(path, text, region="", source=root.name)


def _nomeroff(root: Path) -> Iterator[Record]:
    for path in _pictures(root / "img"):
        annotation = root / "ann" / f"{path.stem}.json"
        try:
            values = json.loads(annotation.read_text(encoding="utf-8"))
            text = normalise_text(str(values["description"]))
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise DatasetError(
                f"{annotation} is missing or has no `description`: {error}"
            ) from error
        lines = values.get("count_lines")
        two = int(lines) > 1 if isinstance(lines, int | str) and str(lines).isdigit() else None
        region = str(values.get("region_name") or values.get("region_id") or "")
        yield Record(path, text, region=region, source=root.name, two_lines=two)


def _folder(root: Path) -> Iterator[Record]:
    for path in _pictures(root):
        text = normalise_text(path.stem.split("_")[0])
        if text:
            yield Record(path, text, region="", source=root.name)
