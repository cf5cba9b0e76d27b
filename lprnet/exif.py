"""EXIF orientation: how a camera was held, and turning the picture upright.

Source: Exif 3.0 (CIPA DC-008), tag 0x0112; TIFF 6.0 for the layout of the block.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

UPRIGHT = 1
_ORIENTATION_TAG = 0x0112
_SHORT = 3


def read_orientation(block: bytes) -> int:
    """Orientation 1..8 of a TIFF-formed EXIF block; 1 (upright) when it states none.

    Damage here is no reason to refuse a picture that decodes: it then counts as upright.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return UPRIGHT
    try:
        (directory,) = struct.unpack_from(f"{order}I", block, 4)
        (entries,) = struct.unpack_from(f"{order}H", block, directory)
        for index in range(entries):
            tag, kind, _, value = struct.unpack_from(
                f"{order}HHIH", block, directory + 2 + 12 * index
            )
            if tag == _ORIENTATION_TAG and kind == _SHORT:
                return value if 1 <= value <= 8 else UPRIGHT
    except struct.error:
        return UPRIGHT
    return UPRIGHT


def turn_upright(image: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Stored pixels [H, W, ...] -> upright pixels; sides swap for orientations 5..8."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
