"""Labelled crops from the layouts that the field uses, as one list of records.

Layouts, told apart by what the folder holds:
- manifest: `manifest.tsv` with columns file, text and optionally region, source, two_line_guess,
  label_kind (wins over the others, since it says most);
- TAO: `image/NAME.jpg` and `label/NAME.txt`, one line of text (NVIDIA TAO LPRNet);
- nomeroff: `img/NAME.png` and `ann/NAME.json` with `description` (AUTO.RIA Numberplate OCR sets),
  also inside `train/`, `val/`, `test/`, which are then read together;
- folder: `TEXT.jpg`, `TEXT_2.jpg`, ...: the name up to the first underscore is the label.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lprnet.charset import normalise_text
from lprnet.errors import ImageError, LprnetError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
SPLITS = ("train", "val", "test")


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


@dataclass(frozen=True)
class LabelFault:
    """A picture whose label file is missing, cannot be read or is another picture's, too."""

    picture: Path
    reason: str


def unreadable(path: Path, error: OSError | ImageError) -> DatasetError:
    """What to raise for a picture that cannot be read."""
    reason = error.strerror if isinstance(error, OSError) else error
    return DatasetError(f"{path}: {reason}; `lprnet data check` lists all such files")


def read_set(root: Path) -> list[Record]:
    """Records of a labelled set, in file order of its layout.

    Raises:
        DatasetError: when the folder is missing, of no known layout, empty or inconsistent.
    """
    return _read_set(root, None)


def read_with_faults(root: Path) -> tuple[list[Record], list[LabelFault]]:
    """What of a set can be read, and the label files that are at fault.

    Raises:
        DatasetError: when the folder is missing, of no known layout or empty, or its manifest
            cannot be read.
    """
    faults: list[LabelFault] = []
    return _read_set(root, faults), faults


def _read_set(root: Path, faults: list[LabelFault] | None) -> list[Record]:
    """Records of a set; label files at fault go to `faults`, or are raised where it is None."""
    if not root.is_dir():
        raise DatasetError(f"{root} is no folder: name a labelled set (TAO, nomeroff, manifest)")
    source = _set_name(root)
    parts = [root / part for part in SPLITS if (root / part / "ann").is_dir()]
    if (root / "manifest.tsv").is_file():
        records = _manifest(root, source)
    elif (root / "label").is_dir():
        records = _tao(root, source, faults)
    elif (root / "ann").is_dir():
        records = _nomeroff(root, source, faults)
    elif parts:
        records = [record for part in parts for record in _nomeroff(part, source, faults)]
    else:
        records = _folder(root, source)
    if not records and not faults:
        raise DatasetError(
            f"{root} holds no labelled picture: expected manifest.tsv, image/ + label/, "
            "img/ + ann/ or files named TEXT.jpg"
        )
    return records


def unlabelled(root: Path) -> list[Record]:
    """Pictures of a folder and of the folders in it, without labels, in order of their names.

    Raises:
        DatasetError: when there is no such folder, or no picture in it.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is no folder: name one with pictures of plates")
    source = _set_name(root)
    folders = [root, *sorted(p for p in root.rglob("*") if p.is_dir())]
    records = [Record(p, "", "", source) for folder in folders for p in _pictures(folder)]
    if not records:
        raise DatasetError(f"{root} holds no picture ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return records


def _set_name(root: Path) -> str:
    """The folder's name; for `.../us/train` it is `us`, since "train" tells no source."""
    folder = root.resolve()
    return folder.parent.name if folder.name in SPLITS and folder.parent.name else folder.name


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # Windows editors put a mark in front
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8 text: {error.reason}") from error


def _manifest(root: Path, source: str) -> list[Record]:
    path = root / "manifest.tsv"
    rows = csv.DictReader(io.StringIO(_read_text(path)), delimiter="\t", quoting=csv.QUOTE_NONE)
    missing = {"file", "text"} - set(rows.fieldnames or ())
    if missing:
        raise DatasetError(f"{path} lacks the column(s) {sorted(missing)}")
    records = []
    for row in rows:
        if not row["file"] or row["text"] is None:
            raise DatasetError(f"{path} line {rows.line_num} has no file or no text")
        guess = row.get("two_line_guess") or ""
        records.append(
            Record(
                path=root / row["file"],
                text=normalise_text(row["text"]),
                region=row.get("region") or "",
                source=row.get("source") or source,
                two_lines=guess == "1" if guess in ("0", "1") else None,
                trusted=row.get("label_kind") != "P",
            )
        )
    return records


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DatasetError(f"{folder} is missing")
    return sorted(
        path
        for path in folder.iterdir()
        # A leading dot marks what is no picture of the set, e.g. macOS's "._NAME.jpg".
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def _labelled(
    pictures: list[Path],
    labels: Path,
    suffix: str,
    read: Callable[[Path, Path], Record],
    faults: list[LabelFault] | None,
) -> list[Record]:
    """Records of pictures and the label files of the same stem; every picture must have one."""
    pairs = [(path, labels / f"{path.stem}{suffix}") for path in pictures]
    lacking = [path for path, label in pairs if not label.is_file()]
    if faults is None:
        _require_none(lacking, len(pairs), labels, suffix)
        return [read(path, label) for path, label in pairs]
    faults += [LabelFault(path, f"no {path.stem}{suffix} in {labels}") for path in lacking]
    absent = set(lacking)
    labelled = [pair for pair in pairs if pair[0] not in absent]
    faults += _shared(labelled)
    records = []
    for path, label in labelled:
        try:
            records.append(read(path, label))
        except DatasetError as error:
            faults.append(LabelFault(path, str(error)))
    return records


def _require_none(lacking: list[Path], total: int, labels: Path, suffix: str) -> None:
    if lacking:
        names = ", ".join(path.name for path in lacking[:3])
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise DatasetError(
            f"{len(lacking)} of {total} pictures have no {suffix} of the same name in "
            f"{labels}: {names}{more}"
        )


def _shared(pairs: list[tuple[Path, Path]]) -> list[LabelFault]:
    """One fault for each label file that several pictures go with: whose it is, nobody knows."""
    pictures: dict[Path, list[Path]] = {}
    for path, label in pairs:
        pictures.setdefault(label, []).append(path)
    return [
        LabelFault(first, f"shares {label.name} with {', '.join(path.name for path in others)}")
        for label, (first, *others) in pictures.items()
        if others
    ]


def _tao(root: Path, source: str, faults: list[LabelFault] | None) -> list[Record]:
    def read(path: Path, label: Path) -> Record:
        return Record(path, normalise_text(_read_text(label)), region="", source=source)

    return _labelled(_pictures(root / "image"), root / "label", ".txt", read, faults)


def _nomeroff(root: Path, source: str, faults: list[LabelFault] | None) -> list[Record]:
    def read(path: Path, annotation: Path) -> Record:
        return _annotated(path, annotation, source)

    return _labelled(_pictures(root / "img"), root / "ann", ".json", read, faults)


def _annotated(path: Path, annotation: Path, source: str) -> Record:
    try:
        values = json.loads(_read_text(annotation))
    except json.JSONDecodeError as error:
        raise DatasetError(f"{annotation} is not JSON: {error}") from error
    description = values.get("description") if isinstance(values, dict) else None
    if isinstance(description, bool) or not isinstance(description, str | int):
        raise DatasetError(f"{annotation} has no text in `description`")
    lines = str(values.get("count_lines", ""))
    return Record(
        path,
        normalise_text(str(description)),
        region=str(values.get("region_name") or values.get("region_id") or ""),
        source=source,
        two_lines=int(lines) > 1 if lines.isdigit() and int(lines) > 0 else None,
    )


def _folder(root: Path, source: str) -> list[Record]:
    pictures = _pictures(root)
    nameless = [path.name for path in pictures if not normalise_text(path.stem.split("_")[0])]
    if nameless:
        raise DatasetError(
            f"{root}: {nameless[0]} does not start with its plate text, as TEXT.jpg or "
            f"TEXT_2.jpg ({len(nameless)} such file(s))"
        )
    return [
        Record(path, normalise_text(path.stem.split("_")[0]), region="", source=source)
        for path in pictures
    ]
