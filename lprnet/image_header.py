"""Format, size and completeness of an encoded picture, read from its bytes before decoding.

A decoder allocates what the header asks for, and OpenCV fills up a truncated JPEG with grey
without telling. So the header is read here, in plain Python, before a pixel is decoded.
Sources: JPEG ITU-T T.81 annex B; PNG third edition (W3C) section 5; WebP container
(RFC 9649); BMP BITMAPINFOHEADER and BITMAPCOREHEADER (Microsoft).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from lprnet.errors import ImageError
from lprnet.exif import UPRIGHT, read_orientation

Format = Literal["JPEG", "PNG", "WebP", "BMP"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # TEM, RST0-7, SOI: no length follows
_JPEG_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0-15 but DHT, JPG, DAC


@dataclass(frozen=True)
class ImageHeader:
    """What the header states.

    Attributes:
        format: by content, not by file name.
        width_px, height_px: as stored, before EXIF orientation.
        has_alpha: whether the pixels carry transparency.
        orientation: EXIF orientation 1..8, 1 = upright.
        end: where the picture ends in the file; a decoder must not look at what follows.
    """

    format: Format
    width_px: int
    height_px: int
    has_alpha: bool
    orientation: int = UPRIGHT
    end: int | None = None


def read_header(data: bytes) -> ImageHeader:
    """Header of a JPEG, PNG, WebP or BMP file.

    Args:
        data: the whole file.

    Raises:
        ImageError: reason ``empty``, ``not_an_image``, ``truncated`` or ``corrupt``.
    """
    if not data:
        raise ImageError("empty", "the picture is empty (0 bytes)")
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith(_PNG_SIGNATURE):
            return _png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:2] == b"BM":
            return _bmp(data)
    except (struct.error, IndexError):
        raise ImageError("truncated", "the picture ends within its header") from None
    raise ImageError("not_an_image", "not a picture: neither JPEG, PNG, WebP nor BMP by content")


def _truncated(kind: Format) -> ImageError:
    return ImageError("truncated", f"the {kind} picture is truncated: its end is missing")


def _jpeg(data: bytes) -> ImageHeader:
    size: tuple[int, int] | None = None
    orientation = UPRIGHT
    at = 2
    while True:
        if at + 2 > len(data):
            raise _truncated("JPEG")
        if data[at] != 0xFF:
            raise ImageError("corrupt", "the JPEG picture is corrupt: a marker is missing")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        at += 2
        if marker in _JPEG_STANDALONE:
            continue
        if marker == 0xD9:
            raise ImageError("corrupt", "the JPEG picture is corrupt: it holds no image data")
        (length,) = struct.unpack_from(">H", data, at)
        if marker in _JPEG_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 3)
            size = (width, height)
        if marker == 0xE1 and data[at + 2 : at + 8] == b"Exif\0\0":
            orientation = read_orientation(data[at + 8 : at + length])
        if marker == 0xDA:
            break
        at += length
    if size is None:
        raise ImageError("corrupt", "the JPEG picture is corrupt: its frame header is missing")
    # Within entropy-coded data 0xFF is always stuffed, so this can only be the end marker.
    # Most files end with it; others carry something behind it, and searching takes 16 us for 20 KB.
    if not data.endswith(b"\xff\xd9", at) and data.find(b"\xff\xd9", at) < 0:
        raise _truncated("JPEG")
    return ImageHeader("JPEG", size[0], size[1], has_alpha=False, orientation=orientation)


def _png(data: bytes) -> ImageHeader:
    length, kind, width, height, _, colour = struct.unpack_from(">I4sIIBB", data, 8)
    if kind != b"IHDR" or length != 13:
        raise ImageError("corrupt", "the PNG picture is corrupt: its header chunk is missing")
    has_alpha = colour in (4, 6)
    orientation = UPRIGHT
    has_pixels = False
    at = 8
    while True:
        if at + 12 > len(data):
            raise _truncated("PNG")
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"tRNS":
            has_alpha = True
        if kind == b"eXIf":
            orientation = read_orientation(data[at + 8 : at + 8 + length])
        has_pixels |= kind == b"IDAT"
        if kind == b"IEND":
            if not has_pixels:
                raise ImageError("corrupt", "the PNG picture is corrupt: it holds no image data")
            return ImageHeader("PNG", width, height, has_alpha, orientation, end=at + 12 + length)
        at += 12 + length


def _webp(data: bytes) -> ImageHeader:
    (riff_bytes,) = struct.unpack_from("<I", data, 4)
    if len(data) < riff_bytes + 8:
        raise _truncated("WebP")
    kind = data[12:16]
    if kind == b"VP8X":
        flags = data[20]
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
        orientation = _webp_orientation(data) if flags & 0x08 else UPRIGHT
        return ImageHeader("WebP", width, height, bool(flags & 0x10), orientation)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader("WebP", width & 0x3FFF, height & 0x3FFF, has_alpha=False)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = 1 + (bits & 0x3FFF), 1 + ((bits >> 14) & 0x3FFF)
        return ImageHeader("WebP", width, height, has_alpha=bool(bits >> 28 & 1))
    raise ImageError("corrupt", "the WebP picture is corrupt: unknown first chunk")


def _webp_orientation(data: bytes) -> int:
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"EXIF":
            block = data[at + 8 : at + 8 + length]
            return read_orientation(block.removeprefix(b"Exif\0\0"))
        at += 8 + length + length % 2
    return UPRIGHT


def _bmp(data: bytes) -> ImageHeader:
    file_bytes, _, offset, header_bytes = struct.unpack_from("<IIII", data, 2)
    if header_bytes == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    width, height = abs(width), abs(height)
    row_bytes = (width * bits + 31) // 32 * 4
    expected = offset + row_bytes * height if compression in (0, 3) else file_bytes
    if len(data) < expected:
        raise _truncated("BMP")
    return ImageHeader("BMP", width, height, has_alpha=False)
