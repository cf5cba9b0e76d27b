"""Pictures as readers get them: pixels for those in this process, a file for a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
from tqdm import tqdm

from lprnet.errors import ImageError
from lprnet.image import UInt8Array, decode_image
from training.data.records import Record


class Picture:
    """One crop of any size.

    Args:
        pixels: UINT8 [H, W, 3] RGB.
        file: the encoded picture that the pixels come from; without it, a PNG is made on demand.
    """

    def __init__(self, pixels: UInt8Array, file: bytes | None = None) -> None:
        self.pixels = pixels
        self._file = file

    @cached_property
    def file(self) -> bytes:
        """JPEG, PNG, WebP or BMP bytes with the very pixels."""
        return encode_png(self.pixels) if self._file is None else self._file


def encode_png(pixels: UInt8Array) -> bytes:
    """UINT8 [H, W, 3] RGB -> PNG file, lossless."""
    good, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    if not good:
        raise ValueError(f"OpenCV cannot encode a picture of shape {pixels.shape}")
    return bytes(data.tobytes())


@dataclass(frozen=True)
class LabelledSet:
    """A set in memory.

    Attributes:
        name: as reports call it.
        records: N labelled crops.
        pictures: N pictures; None where the file cannot be read. Such a plate counts as wrong.
        unreadable: path and reason of those.
    """

    name: str
    records: tuple[Record, ...]
    pictures: tuple[Picture | None, ...]
    unreadable: tuple[tuple[str, str], ...]

    @property
    def readable(self) -> list[Picture]:
        """The pictures that there are."""
        return [picture for picture in self.pictures if picture is not None]


def load_pictures(name: str, records: Sequence[Record]) -> LabelledSet:
    """Read and decode the pictures of a set once; about 50 kB of memory a crop."""
    pictures: list[Picture | None] = []
    unreadable = []
    for record in tqdm(records, desc=f"reading {name}", unit="crop", disable=None, leave=False):
        try:
            data = record.path.read_bytes()
            pictures.append(Picture(decode_image(data), data))
        except (OSError, ImageError) as error:
            pictures.append(None)
            unreadable.append((str(record.path), str(error)))
    return LabelledSet(name, tuple(records), tuple(pictures), tuple(unreadable))
