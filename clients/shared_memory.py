"""Shared memory regions that carry pictures to a server on the same machine.

A region is used by one request at a time and then again; regions are made as they are needed
and removed by `close`. Should the process be killed, Python's resource tracker removes them.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from clients.cuda_memory import CudaMemory, check_device
from clients.errors import ClientError, ConfigurationError
from clients.wire import Tensor, image_input
from lprnet import contract

PREFIX: Final = "lprnet_client_"
"""Names of regions start with it."""

_MIN_REGION_BYTES: Final = 1024 * 1024


class Memory(Protocol):
    """Where a region lies: /dev/shm, or a GPU (`clients.cuda_memory`).

    Attributes:
        name: with the server.
        size_bytes: what it can hold.
    """

    name: str
    size_bytes: int

    def write(self, content: npt.NDArray[np.uint8]) -> None:
        """Copy bytes to the beginning."""

    def register(self, triton: Any, **call: Any) -> None:
        """Tell the server of it."""

    def unregister(self, triton: Any, **call: Any) -> None:
        """Tell the server that it goes."""

    def free(self) -> None:
        """Remove it."""


class SystemMemory:
    """A file in /dev/shm, which has the region's name.

    Raises:
        ConfigurationError: when /dev/shm has no room.
    """

    def __init__(self, name: str, size_bytes: int) -> None:
        self.name = name
        try:
            self._memory = SharedMemory(name, create=True, size=size_bytes)
        except OSError as error:
            raise ConfigurationError(
                f"no shared memory to be had ({error.strerror}): switch shared_memory off"
            ) from error
        self.size_bytes = self._memory.size

    def write(self, content: npt.NDArray[np.uint8]) -> None:
        """Copy bytes to the beginning."""
        if self._memory.buf is None:
            raise ClientError("the client is closed")
        np.ndarray(content.shape, np.uint8, buffer=self._memory.buf)[:] = content

    def register(self, triton: Any, **call: Any) -> None:
        """Tell the server of it."""
        triton.register_system_shared_memory(self.name, f"/{self.name}", self.size_bytes, **call)

    def unregister(self, triton: Any, **call: Any) -> None:
        """Tell the server that it goes."""
        triton.unregister_system_shared_memory(self.name, **call)

    def free(self) -> None:
        """Remove it."""
        self._memory.close()
        self._memory.unlink()


@dataclass
class Region:
    """One region.

    Attributes:
        memory: where it lies.
        registered: whether the server has been told.
    """

    memory: Memory
    registered: bool = False

    def put_images(self, pictures: Sequence[bytes]) -> Tensor:
        """Write encoded pictures."""
        plain = image_input(pictures)
        return self._put(
            plain.name, plain.datatype, plain.shape, np.frombuffer(plain.content, "u1")
        )

    def put_crops(self, crops: npt.NDArray[np.uint8]) -> Tensor:
        """Write UINT8 [N, 3, H, W]."""
        return self._put(contract.IMAGE, "UINT8", crops.shape, crops)

    def _put(
        self, name: str, kind: str, shape: tuple[int, ...], content: npt.NDArray[np.uint8]
    ) -> Tensor:
        self.memory.write(content)
        return Tensor(name, kind, shape, region=self.memory.name, region_bytes=content.nbytes)


class RegionPool:
    """Regions of one client. Safe to use from several threads.

    Args:
        cuda_device: number of the GPU whose memory to use; None: /dev/shm.

    Raises:
        ConfigurationError: when there is no such GPU.
    """

    def __init__(self, cuda_device: int | None = None) -> None:
        if cuda_device is not None:
            check_device(cuda_device)
        self._device = cuda_device
        self._free: list[Region] = []
        self._all: list[Region] = []
        self._closed = False
        self._lock = threading.Lock()

    @contextmanager
    def loan(self, size_bytes: int) -> Iterator[Region]:
        """A region of at least that size that nobody else uses until the block ends.

        A request that was given up may still be read by the server while the region carries the
        next one: its answer goes nowhere.

        Raises:
            ConfigurationError: when there is no room for it.
            ClientError: after `drain`.
        """
        region = self._take(size_bytes)
        try:
            yield region
        finally:
            with self._lock:
                self._free.append(region)

    def _take(self, size_bytes: int) -> Region:
        with self._lock:
            if self._closed:  # nobody would free it any more
                raise ClientError("the client is closed")
            for region in self._free:
                if region.memory.size_bytes >= size_bytes:
                    self._free.remove(region)
                    return region
            name = f"{PREFIX}{os.getpid()}_{secrets.token_hex(4)}"
            size = max(_MIN_REGION_BYTES, 1 << (size_bytes - 1).bit_length())
            memory: Memory = (
                SystemMemory(name, size)
                if self._device is None
                else CudaMemory(name, size, self._device)
            )
            region = Region(memory)
            self._all.append(region)
            return region

    def drain(self) -> list[Region]:
        """Hand out all regions for removal; the pool gives none after that."""
        with self._lock:
            self._closed = True
            regions = self._all
            self._all, self._free = [], []
            return regions


def image_bytes(pictures: Sequence[bytes]) -> int:
    """Room that `Region.put_images` needs."""
    return sum(4 + len(data) for data in pictures)
