"""Write a labelled set of any layout in TAO's, with a manifest beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from lprnet.charset import Charset
from lprnet.errors import ImageError
from lprnet.image import decode_image
from training.data.records import DatasetError, Record
from training.evaluation.pictures import encode_png

TAO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
CHARACTERS_FILE = "characters.txt"
_COLUMNS = ("file", "text", "region", "source", "two_line_guess", "label_kind")


def convert_to_tao(records: Sequence[Record], out: Path, charset: Charset) -> None:
    """Write image/, label/, characters.txt (TAO) and manifest.tsv (regions, sources, lines).

    JPEG and PNG files are copied as they are; others become PNG. `out` holds all of the set or,
    where something fails, nothing.

    Raises:
        DatasetError: when `out` holds something already, a picture cannot be read or the set
            cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out} is not an empty folder: name a new one")
    place = out.resolve()  # "." has no name
    staged = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        _write(records, staged, charset)
        _publish(staged, place)
    except OSError as error:
        raise DatasetError(f"cannot write {out}: {error.strerror}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _publish(staged: Path, out: Path) -> None:
    if not out.exists():
        staged.replace(out)
        return
    for part in sorted(staged.iterdir()):  # the empty folder may be somebody's working directory
        shutil.move(part, out / part.name)


def _write(records: Sequence[Record], out: Path, charset: Charset) -> None:
    (out / "image").mkdir(parents=True)
    (out / "label").mkdir()
    taken: set[str] = set()
    rows = ["\t".join(_COLUMNS)]
    for record in tqdm(records, desc="converting", unit="crop", disable=None, leave=False):
        stem = _unique(record.path.stem, taken)
        name = _copy(record.path, out / "image", stem)
        (out / "label" / f"{stem}.txt").write_text(record.text + "\n", encoding="utf-8")
        lines = "" if record.two_lines is None else str(int(record.two_lines))
        kind = "G" if record.trusted else "P"
        rows.append(
            "\t".join((f"image/{name}", record.text, record.region, record.source, lines, kind))
        )
    (out / "manifest.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    characters = "\n".join(charset.characters) + "\n"
    (out / CHARACTERS_FILE).write_text(characters, encoding="utf-8")


def _unique(stem: str, taken: set[str]) -> str:
    """Names of two folders may clash; those that differ in case only do on some file systems."""
    number, made = 1, stem
    while made.lower() in taken:
        number += 1
        made = f"{stem}-{number}"
    taken.add(made.lower())
    return made


def _copy(path: Path, folder: Path, stem: str) -> str:
    try:
        if path.suffix.lower() in TAO_SUFFIXES:
            name = f"{stem}{path.suffix.lower()}"
            shutil.copyfile(path, folder / name)
            return name
        name = f"{stem}.png"
        (folder / name).write_bytes(encode_png(decode_image(path.read_bytes())))
        return name
    except OSError as error:
        raise DatasetError(f"cannot copy {path}: {error.strerror}") from error
    except ImageError as error:
        raise DatasetError(f"{path}: {error}") from error
