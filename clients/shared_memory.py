"""System shared memory regions that carry pictures to a server on the same machine.

A region is used by one request at a time and then again; regions are made as they are needed
and removed by `close`. Should the process be killed, Python's resource tracker removes them.
"""

from __future__ import annotations

import os
import secrets
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from typing import Final

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferInput  # type: ignore[import-untyped]

from clients.errors import ClientError, ConfigurationError
from lprnet import contract

PREFIX: Final = "lprnet_client_"
"""Names in /dev/shm start with it."""

_MIN_REGION_BYTES: Final = 1024 * 1024


@dataclass
class Region:
    """One region.

    Attributes:
        name: with the server; the file in /dev/shm has the same.
        memory: the mapping.
        registered: whether the server has been told.
    """

    name: str
    memory: SharedMemory
    registered: bool = False

    @property
    def size_bytes(self) -> int:
        """What it can hold."""
        return self.memory.size

    @property
    def _buffer(self) -> memoryview:
        if self.memory.buf is None:
            raise ClientError("the client is closed")
        return self.memory.buf

    def put_images(self, pictures: Sequence[bytes]) -> InferInput:
        """Write encoded pictures as Triton's BYTES (length, little endian, then content)."""
        at, buffer = 0, self._buffer
        for data in pictures:
            struct.pack_into("<I", buffer, at, len(data))
            buffer[at + 4 : at + 4 + len(data)] = data
            at += 4 + len(data)
        return self._input(contract.ENCODED, [len(pictures), 1], "BYTES", at)

    def put_crops(self, crops: npt.NDArray[np.uint8]) -> InferInput:
        """Write UINT8 [N, 3, H, W]."""
        view: npt.NDArray[np.uint8] = np.ndarray(crops.shape, np.uint8, buffer=self._buffer)
        view[:] = crops
        return self._input(contract.IMAGE, list(crops.shape), "UINT8", crops.nbytes)

    def _input(self, name: str, shape: list[int], kind: str, size_bytes: int) -> InferInput:
        tensor = InferInput(name, shape, kind)
        tensor.set_shared_memory(self.name, size_bytes)
        return tensor


class RegionPool:
    """Regions of one client. Safe to use from several threads."""

    def __init__(self) -> None:
        self._free: list[Region] = []
        self._all: list[Region] = []
        self._lock = threading.Lock()

    @contextmanager
    def loan(self, size_bytes: int) -> Iterator[Region]:
        """A region of at least that size that nobody else uses until the block ends.

        A request that was given up may still be read by the server while the region carries the
        next one: its answer goes nowhere.

        Raises:
            ConfigurationError: when /dev/shm has no room.
        """
        region = self._take(size_bytes)
        try:
            yield region
        finally:
            with self._lock:
                self._free.append(region)

    def _take(self, size_bytes: int) -> Region:
        with self._lock:
            for region in self._free:
                if region.size_bytes >= size_bytes:
                    self._free.remove(region)
                    return region
            name = f"{PREFIX}{os.getpid()}_{secrets.token_hex(4)}"
            size = max(_MIN_REGION_BYTES, 1 << (size_bytes - 1).bit_length())
            try:
                memory = SharedMemory(name, create=True, size=size)
            except OSError as error:
                raise ConfigurationError(
                    f"no shared memory to be had ({error.strerror}): switch shared_memory off"
                ) from error
            region = Region(name, memory)
            self._all.append(region)
            return region

    def drain(self) -> list[Region]:
        """Hand out all regions for removal; the pool is empty then."""
        with self._lock:
            regions = self._all
            self._all, self._free = [], []
            return regions


def image_bytes(pictures: Sequence[bytes]) -> int:
    """Room that `Region.put_images` needs."""
    return sum(4 + len(data) for data in pictures)
