"""Requests and answers of the two ensembles: what every client sends and reads. No connection."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

from clients.errors import ConfigurationError, InvalidPicture, ServerError
from clients.result import PlateReading
from lprnet import contract
from lprnet.errors import ImageError
from lprnet.image import DEFAULT_LIMITS, ImageLimits, check_size
from lprnet.image_header import read_header

MAX_REQUEST_BYTES: Final = 8 * 1024 * 1024
"""Pictures of one request; a single larger picture goes alone. Bounds memory on both sides."""

_OUTPUTS: Final = [
    service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=name)
    for name in (contract.PLATE, contract.CONFIDENCE, contract.CHAR_CONFIDENCES)
]


@dataclass(frozen=True)
class Tensor:
    """The only input of a request.

    Attributes:
        name, datatype, shape: as the model's config has them, Triton's names of types.
        content: its bytes, when they travel in the request.
        region, region_bytes: name of the shared memory that begins with them, and how many.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: bytes = b""
    region: str = ""
    region_bytes: int = 0


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
    if not isinstance(crops, np.ndarray):
        raise ConfigurationError(f"crops are a numpy array, not {type(crops).__name__}")
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != shape:
        wanted = ", ".join(map(str, shape))
        raise ConfigurationError(
            f"crops are {crops.dtype} {list(crops.shape)}: the server takes uint8 [N, {wanted}] "
            "RGB (lprnet.image.to_crop makes them)"
        )


def check_crop(crop: npt.NDArray[np.uint8], shape: tuple[int, int, int]) -> None:
    """Raise ConfigurationError unless `crop` is UINT8 of this shape."""
    if not isinstance(crop, np.ndarray):
        raise ConfigurationError(f"a crop is a numpy array, not {type(crop).__name__}")
    if crop.dtype != np.uint8 or crop.shape != shape:
        wanted = ", ".join(map(str, shape))
        raise ConfigurationError(
            f"a crop is {crop.dtype} {list(crop.shape)}: the server takes uint8 [{wanted}] RGB "
            "(lprnet.image.to_crop makes one)"
        )


def image_input(pictures: Sequence[bytes]) -> Tensor:
    """Encoded pictures -> tensor `encoded`, Triton's BYTES (length, little endian, content)."""
    parts = [part for data in pictures for part in (struct.pack("<I", len(data)), data)]
    return Tensor(contract.ENCODED, "BYTES", (len(pictures), 1), b"".join(parts))


def crop_input(crops: npt.NDArray[np.uint8]) -> Tensor:
    """UINT8 [N, 3, H, W] -> tensor `image`."""
    return Tensor(contract.IMAGE, "UINT8", crops.shape, crops.tobytes())


def infer_request(
    model: str, tensor: Tensor, request_id: str, priority: int
) -> service_pb2.ModelInferRequest:
    """The message of one request for plates.

    Made here and not by tritonclient, which goes through numpy arrays of objects on both ways:
    0.1 ms of a single picture (load_tests/NOTES.md).
    """
    request = service_pb2.ModelInferRequest(model_name=model, id=request_id, outputs=_OUTPUTS)
    described = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    if tensor.region:
        described.parameters["shared_memory_region"].string_param = tensor.region
        described.parameters["shared_memory_byte_size"].int64_param = tensor.region_bytes
    else:
        request.raw_input_contents.append(tensor.content)
    if priority:
        request.parameters["priority"].uint64_param = priority
    return request


def readings(answer: service_pb2.ModelInferResponse, count: int) -> list[PlateReading]:
    """Answer -> one reading for each of the request's `count` pictures.

    Raises:
        ServerError: when the answer lacks outputs or has another size.
    """
    names = [output.name for output in answer.outputs]
    contents = dict(zip(names, answer.raw_output_contents, strict=False))
    try:
        texts = _texts(contents[contract.PLATE], count)
        confidences = struct.unpack(f"<{count}f", contents[contract.CONFIDENCE])
        rows = contents[contract.CHAR_CONFIDENCES]
        width = len(rows) // (4 * count)
        if width == 0:
            raise ValueError("no confidences")
        values = struct.unpack(f"<{width * count}f", rows)
    except (KeyError, ValueError, struct.error) as error:
        raise ServerError("OK", "but the answer does not hold a plate a picture") from error
    return [
        PlateReading(text, confidence, values[at : at + width][: len(text)])
        for at, text, confidence in zip(
            range(0, width * count, width), texts, confidences, strict=True
        )
    ]


def _texts(content: bytes, count: int) -> list[str]:
    """Triton's BYTES -> text. Raises ValueError or struct.error when there are not so many."""
    texts, at = [], 0
    for _ in range(count):
        (length,) = struct.unpack_from("<I", content, at)
        end = at + 4 + length
        texts.append(content[at + 4 : end].decode("utf-8"))
        at = end
    if at != len(content):
        raise ValueError(f"{len(content)} bytes do not hold {count} texts")
    return texts
