"""Picture files -> outcomes, a batch of paths at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence

from clients.result import FileReading, Outcome, PlateReading
from clients.wire import MAX_REQUEST_BYTES, ImageContract, too_many_bytes
from lprnet.errors import ImageError
from lprnet.image import ImageLimits


def load(path: str, limits: ImageLimits) -> bytes:
    """The content of a regular file within the size limit.

    Raises:
        OSError: when it cannot be read or is no regular file.
        ImageError: ``too_large``, before a byte is read.
    """
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        os.scandir(path).close()  # raises where that is forbidden
        raise IsADirectoryError(21, "is a folder")
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or device may never end
        raise OSError(0, "not a regular file")
    if status.st_size > limits.max_bytes:
        raise too_many_bytes(status.st_size, limits)
    with open(path, "rb") as file:
        return file.read(limits.max_bytes + 1)


def read_file_batch(
    paths: Sequence[str],
    terms: ImageContract,
    read_batch: Callable[[list[bytes]], list[Outcome]],
) -> list[FileReading]:
    """Load and read at most `terms.max_batch` files; one row a path, in order.

    Files are loaded and sent in parts of MAX_REQUEST_BYTES, so that large ones do not add up.
    """
    rows: dict[int, FileReading] = {}
    loaded: dict[int, bytes] = {}
    size_bytes = 0

    def flush() -> None:
        nonlocal size_bytes
        for index, outcome in zip(loaded, read_batch(list(loaded.values())), strict=True):
            rows[index] = row(paths[index], outcome)
        loaded.clear()
        size_bytes = 0

    for index, path in enumerate(paths):
        try:
            data = load(path, terms.limits)
        except (OSError, ValueError) as error:  # ValueError: a NUL within the name
            text = str(getattr(error, "strerror", None) or error)
            rows[index] = FileReading(path, None, text[:1].lower() + text[1:])
            continue
        except ImageError as error:
            rows[index] = FileReading(path, None, str(error))
            continue
        if loaded and size_bytes + len(data) > MAX_REQUEST_BYTES:
            flush()
        loaded[index] = data
        size_bytes += len(data)
    if loaded:
        flush()
    return [rows[index] for index in range(len(paths))]


def row(path: str, outcome: Outcome) -> FileReading:
    """An outcome under its file's name."""
    if isinstance(outcome, PlateReading):
        return FileReading(path, outcome)
    return FileReading(path, None, str(outcome))
