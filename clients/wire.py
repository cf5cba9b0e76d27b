"""Requests and answers of the two ensembles: what every client sends and reads. No connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import (  # type: ignore[import-untyped]
    InferInput,
    InferRequestedOutput,
    InferResult,
)

from clients.errors import ConfigurationError, InvalidPicture, ServerError
from clients.result import PlateReading
from lprnet import contract
from lprnet.errors import ImageError
from lprnet.image import DEFAULT_LIMITS, ImageLimits, check_size
from lprnet.image_header import read_header

MAX_REQUEST_BYTES: Final = 8 * 1024 * 1024
"""Pictures of one request; a single larger picture goes alone. Bounds memory on both sides."""

OUTPUTS: Final = [
    InferRequestedOutput(name)
    for name in (contract.PLATE, contract.CONFIDENCE, contract.CHAR_CONFIDENCES)
]


@dataclass(frozen=True)
class ImageContract:
    """What the server takes as encoded pictures: batch and limits, from its own config."""

    max_batch: int
    limits: ImageLimits


@dataclass(frozen=True)
class CropContract:
    """What the server takes as crops: batch and shape (3, H, W), from its own config."""

    max_batch: int
    shape: tuple[int, int, int]


def image_contract(ensemble: Any, decoder: Any | None) -> ImageContract:
    """Model configs of `lpr_image` and of `image_decoder` (None: the server has no such model)."""
    limits = DEFAULT_LIMITS
    if decoder is not None:
        texts = {key: value.string_value for key, value in decoder.parameters.items()}
        names = {"max_bytes": int, "max_pixels": int, "min_side_px": int, "max_aspect": float}
        given = {name: kind(texts[name]) for name, kind in names.items() if name in texts}
        limits = ImageLimits(**{**vars(DEFAULT_LIMITS), **given})
    return ImageContract(_max_batch(ensemble), limits)


def crop_contract(ensemble: Any) -> CropContract:
    """Model config of `lpr`."""
    channels, height, width = next(i.dims for i in ensemble.input if i.name == contract.IMAGE)
    return CropContract(_max_batch(ensemble), (channels, height, width))


def _max_batch(config: Any) -> int:
    size = int(config.max_batch_size)
    if size < 1:
        raise ServerError("OK", f"model {config.name!r} takes no batches: not this release's")
    return size


def check_picture(data: bytes, limits: ImageLimits) -> InvalidPicture | None:
    """What the server would refuse without decoding a pixel, found before sending."""
    try:
        if len(data) > limits.max_bytes:
            raise too_many_bytes(len(data), limits)
        header = read_header(data)
        check_size(header.height_px, header.width_px, limits)
    except ImageError as error:
        return InvalidPicture.from_image_error(error)
    return None


def as_bytes(picture: bytes | bytearray | memoryview) -> bytes:
    """An encoded picture as the wire takes it.

    Raises:
        TypeError: for anything else, a path or text for one.
    """
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, bytearray | memoryview):
        return bytes(picture)
    raise TypeError(f"a picture is the bytes of its file, not {type(picture).__name__}")


def too_many_bytes(size_bytes: int, limits: ImageLimits) -> ImageError:
    """The error for a file over the limit."""
    return ImageError(
        "too_large", f"the file has {size_bytes:,} bytes, more than {limits.max_bytes:,}"
    )


def batches_of(pictures: Iterable[bytes], max_batch: int) -> Iterator[list[bytes]]:
    """Split in order into batches of at most `max_batch` pictures and MAX_REQUEST_BYTES."""
    batch: list[bytes] = []
    size = 0
    for data in map(as_bytes, pictures):
        if batch and (len(batch) == max_batch or size + len(data) > MAX_REQUEST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(data)
        size += len(data)
    if batch:
        yield batch


def check_crops(crops: npt.NDArray[np.uint8], shape: tuple[int, int, int]) -> None:
    """Raise ConfigurationError unless `crops` is UINT8 [N, *shape]."""
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != shape:
        wanted = ", ".join(map(str, shape))
        raise ConfigurationError(
            f"crops are {crops.dtype} {list(crops.shape)}: the server takes uint8 [N, {wanted}] "
            "RGB (lprnet.image.to_crop makes them)"
        )


def image_input(pictures: Sequence[bytes]) -> InferInput:
    """Encoded pictures -> tensor `encoded`."""
    column = np.empty((len(pictures), 1), dtype=object)
    column[:, 0] = pictures
    tensor = InferInput(contract.ENCODED, [len(pictures), 1], "BYTES")
    return tensor.set_data_from_numpy(column)


def crop_input(crops: npt.NDArray[np.uint8]) -> InferInput:
    """UINT8 [N, 3, H, W] -> tensor `image`."""
    return InferInput(contract.IMAGE, list(crops.shape), "UINT8").set_data_from_numpy(crops)


def readings(result: InferResult, count: int) -> list[PlateReading]:
    """Answer -> one reading for each of the request's `count` pictures.

    Raises:
        ServerError: when the answer lacks outputs or has another size.
    """
    try:
        plates = result.as_numpy(contract.PLATE).reshape(count).tolist()
        confidences = result.as_numpy(contract.CONFIDENCE).reshape(count).tolist()
        characters = result.as_numpy(contract.CHAR_CONFIDENCES).reshape(count, -1).tolist()
    except (AttributeError, ValueError) as error:
        raise ServerError("OK", "but the answer does not hold a plate a picture") from error
    texts = [plate.decode("utf-8") for plate in plates]
    return [
        PlateReading(text, confidence, tuple(row[: len(text)]))
        for text, confidence, row in zip(texts, confidences, characters, strict=True)
    ]
