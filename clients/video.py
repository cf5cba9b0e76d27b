"""Frames of a video or camera -> crops at given boxes -> readings."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from clients.client import PlateClient
from clients.errors import ClientError, ConfigurationError
from clients.flow import map_batches
from clients.result import PlateReading
from clients.tracks import Box
from lprnet.image import to_crop

BATCH = 16
"""Crops of one request at most; on a live camera those that came while others were read."""

Crop = tuple[Box, npt.NDArray[np.uint8] | None]
"""None: the box lies outside its frame."""

NOTHING = PlateReading("", 0.0, ())

_CLOSE_S: Final = 5.0


class Video:
    """Frames in order; `close` it. Safe to close while another thread takes a frame.

    Args:
        source: a file, an address that OpenCV opens (rtsp://...), or a camera's number.

    Raises:
        ConfigurationError: when it cannot be opened.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        is_camera = source.isascii() and source.isdecimal() and not os.path.exists(source)
        try:
            source.encode("utf-8")
            opened = int(source) if is_camera else source
            self._capture = cv2.VideoCapture(opened)  # type: ignore[call-overload]
        except UnicodeEncodeError as error:  # OpenCV would crash
            raise ConfigurationError(
                f"cannot open the video {source!r}: OpenCV takes names in UTF-8 only; rename it"
            ) from error
        except cv2.error as error:  # no number of a camera
            raise ConfigurationError(f"cannot open the video {source}") from error
        if not self._capture.isOpened():
            raise ConfigurationError(f"cannot open the video {source}")
        self._next = 0
        self._frame = np.zeros((0, 0, 3), np.uint8)
        self._closed = False
        # Around all of OpenCV: a program that ends while a thread is in there is aborted.
        self._native = threading.Lock()

    def crop(self, box: Box, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8] | None:
        """UINT8 [3, H, W] RGB cut out of the box's frame; None for a box outside it.

        Args:
            box: frames must be asked for in order. Parts outside the frame are cut off: trackers
                foretell boxes outside it.
            shape: (3, H, W).

        Raises:
            ConfigurationError: when the video ends before the frame.
            ClientError: after `close`.
        """
        with self._native:
            if self._closed:
                raise ClientError("the video is closed")
            if box.frame != self._next - 1:
                self._frame = self._read(box.frame)
            left, top = max(box.x, 0), max(box.y, 0)
            part = self._frame[top : max(box.y + box.height, 0), left : max(box.x + box.width, 0)]
            return None if 0 in part.shape else to_crop(part, *shape[1:])

    def _read(self, number: int) -> npt.NDArray[np.uint8]:
        while self._next < number:  # skipped without being converted
            if not self._capture.grab():
                break
            self._next += 1
        found, pixels = self._capture.read()
        if not found:
            raise ConfigurationError(
                f"{self._source} ends at frame {self._next}; a box names frame {number}"
            )
        self._next += 1
        return np.ascontiguousarray(pixels[:, :, ::-1], np.uint8)

    def close(self) -> None:
        """Release the file or camera, when the frame that is being taken is there."""
        if self._native.acquire(timeout=_CLOSE_S):  # else a camera that hangs: the end is near
            self._closed = True
            self._capture.release()
            self._native.release()


def read_boxes(
    client: PlateClient, source: str, boxes: Iterable[Box]
) -> Iterator[tuple[Box, PlateReading]]:
    """The reading of every box, in order, in bounded memory; outside the frame there is none.

    Args:
        source: see `Video`.
        boxes: in order of frames.

    Raises:
        ConfigurationError: for a video that cannot be opened or ends before a box's frame.
    """

    def read(batch: list[Crop]) -> list[tuple[Box, PlateReading]]:
        crops = [crop for _, crop in batch if crop is not None]
        readings = iter(client.read_crops(np.stack(crops)) if crops else [])
        return [(box, NOTHING if crop is None else next(readings)) for box, crop in batch]

    with closing(Video(source)) as video:
        shape = client.crop_contract.shape
        crops = ((box, None if box.track is None else video.crop(box, shape)) for box in boxes)
        yield from map_batches(read, crops, size=BATCH, in_flight=client.options.in_flight)
