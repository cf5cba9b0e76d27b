"""What stands behind the end of a PNG is cut off before OpenCV sees it.

OpenCV 4.11 reads on behind IEND where no image data came before, takes what it finds for a chunk
of up to 4 GB and fills that much memory: a file of 3 KB keeps it busy for 15 seconds.
"""

from __future__ import annotations

import struct
from typing import Final

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def until_end(data: bytes) -> bytes:
    """A PNG file up to and with its IEND chunk; anything else as it is."""
    if not data.startswith(SIGNATURE):
        return data
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if kind == b"IEND":
            return data[:at]
    return data  # not complete: `lprnet.image` refuses it
