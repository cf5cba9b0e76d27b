"""Real crops decoded once into one memory-mapped array, at their own size.

Layout of a cache folder: `pixels.bin` (all crops' UINT8 [H, W, 3] RGB bytes one after another)
and `index.npz` (offset, height, width). The folder's name is a digest of the records, so that a
changed set makes a new cache; it can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from lprnet.errors import ImageError, LprnetError
from lprnet.image import UInt8Array, decode_image
from training.data.records import Record, unreadable

MAX_SIDE_PX = 320
"""Longer crops are shrunk: three times the network's width is all that it can use."""


class CacheError(LprnetError):
    """A cache of pictures, real or drawn, that cannot be used."""


def unusable(folder: Path, error: OSError) -> CacheError:
    """What to raise where a file of a cache cannot be read or written."""
    return CacheError(
        f"cannot use the cache {folder}: {error.strerror or error}: name another folder with "
        "--set data.cache=DIR"
    )


def _digest(records: Sequence[Record]) -> str:
    hasher = hashlib.sha256(f"v1 {MAX_SIDE_PX}".encode())
    for record in records:
        try:
            status = record.path.stat()
        except OSError as error:
            raise unreadable(record.path, error) from error
        hasher.update(f"{record.path.resolve()}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return hasher.hexdigest()[:16]


def _shrink(image: UInt8Array) -> UInt8Array:
    side = max(image.shape[:2])
    if side <= MAX_SIDE_PX:
        return image
    size = [max(1, round(n * MAX_SIDE_PX / side)) for n in image.shape[1::-1]]
    return cast(UInt8Array, cv2.resize(image, size, interpolation=cv2.INTER_AREA))


class CropCache:
    """Decoded crops of a list of records, in its order.

    Args:
        records: every picture must be readable; `lprnet data check` finds those that are not.
        folder: where caches lie.

    Raises:
        DatasetError: when a picture cannot be read.
        CacheError: when the cache cannot be read or written.
    """

    def __init__(self, records: Sequence[Record], folder: Path) -> None:
        self.path = folder.expanduser() / f"crops-{_digest(records)}"
        try:
            if not (self.path / "index.npz").is_file():
                self._make(records)
        except OSError as error:
            raise unusable(folder, error) from error
        self._open()

    def _open(self) -> None:
        with np.load(self.path / "index.npz") as index:
            self._offset: npt.NDArray[np.int64] = index["offset"]
            self._shape: npt.NDArray[np.int32] = index["shape"]
        self._pixels = np.memmap(self.path / "pixels.bin", dtype=np.uint8, mode="r")

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}  # a memory map would travel to data processes as a copy

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.path = state["path"]
        self._open()

    def __len__(self) -> int:
        return len(self._offset)

    def __getitem__(self, index: int) -> UInt8Array:
        """Crop `index`: UINT8 [H, W, 3] RGB, a view that must not be written to."""
        height, width = self._shape[index]
        start = self._offset[index]
        return self._pixels[start : start + height * width * 3].reshape(height, width, 3)

    def _make(self, records: Sequence[Record]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        offset, shape, at = [], [], 0
        partial = self.path / f"pixels.{os.getpid()}.tmp"
        with partial.open("wb") as file:
            for record in tqdm(records, desc="decoding crops", unit="crop", disable=None):
                try:
                    image = _shrink(decode_image(record.path.read_bytes()))
                except (OSError, ImageError) as error:
                    raise unreadable(record.path, error) from error
                offset.append(at)
                shape.append(image.shape[:2])
                at += file.write(image.tobytes())
        partial.replace(self.path / "pixels.bin")
        staged = self.path / f"index.{os.getpid()}.tmp.npz"
        np.savez(staged, offset=np.array(offset, np.int64), shape=np.array(shape, np.int32))
        staged.replace(self.path / "index.npz")  # last: its presence says that all is there
