"""From an encoded picture or an array of any depth to the network's crop.

The geometry is the reference's: bilinear resize to 48 x 96, aspect ratio not kept, RGB, no mean
and no scale (scaling to float is inside the graph).

Reasons of `ImageError`: ``empty``, ``not_an_image``, ``truncated``, ``corrupt``, ``too_large``
(bytes or pixels), ``too_small``, ``bad_shape`` (extreme aspect ratio, wrong array shape),
``bad_dtype``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg  # type: ignore[import-untyped]

from lprnet.errors import ImageError
from lprnet.exif import UPRIGHT, turn_upright
from lprnet.image_header import ImageHeader, read_header
from lprnet.plate_spec import INPUT_HEIGHT_PX, INPUT_WIDTH_PX

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ImageLimits:
    """What a picture may be at most and at least. Checked before pixels are decoded.

    Attributes:
        max_bytes: size of the encoded file.
        max_pixels: width times height; guards against decompression bombs.
        min_side_px: shorter side; below it there is nothing to read.
        max_aspect: longer side over shorter side.
    """

    max_bytes: int = 16 * 1024 * 1024
    max_pixels: int = 40_000_000
    min_side_px: int = 4
    max_aspect: float = 40.0


DEFAULT_LIMITS = ImageLimits()
ALPHA_ROWS = 64  # rows that are blended at a time


def decode_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> UInt8Array:
    """JPEG, PNG, WebP or BMP file -> UINT8 [H, W, 3] RGB, EXIF orientation applied.

    Grayscale and palette pictures become RGB, 16-bit ones are scaled to 8 bits, CMYK is
    converted, transparency is laid over white; of an animation the first frame is taken.

    Raises:
        ImageError: when the bytes are no such picture, are damaged or exceed the limits.
    """
    return _finish(*_decode(data, limits))


def _decode(data: bytes, limits: ImageLimits) -> tuple[npt.NDArray[Any], ImageHeader]:
    """Pixels as stored, in OpenCV's channel order, of a file within the limits."""
    if len(data) > limits.max_bytes:
        raise ImageError(
            "too_large", f"the file has {len(data):,} bytes, more than {limits.max_bytes:,}"
        )
    header = read_header(data)
    check_size(header.height_px, header.width_px, limits)
    pixels = _decode_jpeg(data) if header.format == "JPEG" else None
    return (_decode_any(data, header) if pixels is None else pixels), header


def _decode_jpeg(data: bytes) -> UInt8Array | None:
    """What OpenCV makes of a JPEG, bit for bit, in 0.17 instead of 0.20 ms a plate.

    None where libjpeg-turbo complains: OpenCV reads some of those files all the same.
    """
    try:
        return cast(UInt8Array, simplejpeg.decode_jpeg(data, "BGR", strict=False))
    except ValueError:
        return None


def _decode_any(data: bytes, header: ImageHeader) -> npt.NDArray[Any]:
    # Orientation is ours for every format: OpenCV applies it to some formats and flags only.
    flags = cv2.IMREAD_UNCHANGED if header.has_alpha else cv2.IMREAD_COLOR
    flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        # OpenCV 4.11 reads on behind a PNG's end and takes what it finds there for chunks of up
        # to 4 GB: a file of 3 KB keeps it busy for 15 seconds.
        pixels = cv2.imdecode(
            np.frombuffer(data, np.uint8, -1 if header.end is None else header.end), flags
        )
    except cv2.error:
        pixels = None
    if pixels is None:
        raise ImageError("corrupt", f"the {header.format} picture is corrupt: it does not decode")
    return pixels


def _finish(pixels: npt.NDArray[Any], header: ImageHeader) -> UInt8Array:
    """Stored pixels -> upright RGB without transparency."""
    image = _without_alpha(pixels) if header.has_alpha else _bgr_to_rgb(pixels)
    return image if header.orientation == UPRIGHT else turn_upright(image, header.orientation)


def _without_alpha(pixels: npt.NDArray[Any]) -> UInt8Array:
    """`to_rgb`, some rows at a time: blending a whole picture takes up to 29 bytes a pixel."""
    if pixels.ndim != 3:
        return to_rgb(pixels, bgr=True)
    image = np.empty((*pixels.shape[:2], 3), np.uint8)
    for top in range(0, len(pixels), ALPHA_ROWS):
        rows = slice(top, top + ALPHA_ROWS)
        image[rows] = to_rgb(pixels[rows], bgr=True)
    return image


def check_size(height_px: int, width_px: int, limits: ImageLimits = DEFAULT_LIMITS) -> None:
    """Raise ImageError unless a picture of this size is within the limits."""
    if height_px * width_px > limits.max_pixels:
        raise ImageError(
            "too_large",
            f"the picture has {width_px} x {height_px} pixels, more than {limits.max_pixels:,}",
        )
    if min(height_px, width_px) < limits.min_side_px:
        raise ImageError(
            "too_small",
            f"the picture has {width_px} x {height_px} pixels: "
            f"each side needs at least {limits.min_side_px}",
        )
    if max(height_px, width_px) > limits.max_aspect * min(height_px, width_px):
        raise ImageError(
            "bad_shape",
            f"the picture has {width_px} x {height_px} pixels: "
            f"one side is more than {limits.max_aspect:g} times the other, no crop of a plate",
        )


def to_rgb(image: npt.NDArray[Any], *, bgr: bool = False) -> UInt8Array:
    """Array of a decoded picture -> UINT8 [H, W, 3] RGB.

    Args:
        image: [H, W] or [H, W, 1] grayscale, [H, W, 3] colour or [H, W, 4] with alpha; UINT8
            0..255, UINT16 0..65535, bool, or floating point 0..1.
        bgr: the colour channels come in OpenCV's order.

    Raises:
        ImageError: reason ``bad_shape`` or ``bad_dtype``.
    """
    if image.ndim == 2:
        image = image[:, :, np.newaxis]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
        raise ImageError(
            "bad_shape",
            f"an array of shape {image.shape} is no picture: give [H, W], [H, W, 3] or [H, W, 4]",
        )
    pixels = _to_uint8(image)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        alpha = pixels[:, :, 3:].astype(np.uint16)
        blended = pixels[:, :, :3] * alpha + np.uint16(255) * (255 - alpha)
        pixels = ((blended + 127) // 255).astype(np.uint8)
    return _bgr_to_rgb(pixels) if bgr else np.ascontiguousarray(pixels)


def _bgr_to_rgb(pixels: npt.NDArray[Any]) -> UInt8Array:
    return cast(UInt8Array, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


def _to_uint8(image: npt.NDArray[Any]) -> UInt8Array:
    if image.dtype == np.uint8:
        return cast(UInt8Array, image)
    if image.dtype == np.uint16:
        return (image >> 8).astype(np.uint8)
    if image.dtype == np.bool_:
        return np.where(image, np.uint8(255), np.uint8(0))
    if np.issubdtype(image.dtype, np.floating):
        if not np.isfinite(image).all() or image.min() < 0 or image.max() > 1:
            raise ImageError("bad_dtype", "floating-point pictures must be finite and in 0..1")
        return cast(UInt8Array, np.round(image * 255).astype(np.uint8))
    raise ImageError(
        "bad_dtype", f"pixels of type {image.dtype} are not supported: give uint8, uint16 or float"
    )


def to_crop(
    image: UInt8Array, height_px: int = INPUT_HEIGHT_PX, width_px: int = INPUT_WIDTH_PX
) -> UInt8Array:
    """UINT8 [H, W, 3] RGB -> UINT8 [3, height_px, width_px] RGB, CHW, contiguous.

    Bilinear, aspect ratio not kept (TAO LPRNet's preprocessing).

    Raises:
        ImageError: ``bad_shape`` for another type or shape.
    """
    return _planes(image, height_px, width_px, (0, 1, 2))


def _planes(
    image: UInt8Array, height_px: int, width_px: int, order: tuple[int, int, int]
) -> UInt8Array:
    """Shrink, then one plane for each channel; channel i becomes plane `order[i]`."""
    if image.dtype != np.uint8 or image.shape[2:] != (3,):
        raise ImageError(
            "bad_shape",
            f"a crop is made of uint8 [H, W, 3], not of {image.dtype} {list(image.shape)}: "
            "`to_rgb` makes it",
        )
    resized = cv2.resize(image, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    crop = np.empty((3, height_px, width_px), np.uint8)
    cv2.split(resized, [crop[plane] for plane in order])  # writes to the planes themselves
    return crop


def load_crop(
    data: bytes,
    height_px: int = INPUT_HEIGHT_PX,
    width_px: int = INPUT_WIDTH_PX,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> UInt8Array:
    """Encoded picture -> the network's input, UINT8 [3, height_px, width_px] RGB.

    Raises:
        ImageError: see `decode_image`.
    """
    pixels, header = _decode(data, limits)
    if header.has_alpha or header.orientation != UPRIGHT:
        return to_crop(_finish(pixels, header), height_px, width_px)
    # Shrinking first leaves fewer channels to swap; the crop is the same, bit for bit.
    return _planes(pixels, height_px, width_px, (2, 1, 0))
