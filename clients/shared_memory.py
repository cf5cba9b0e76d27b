"""Shared memory regions that carry pictures to a server on the same machine.

A region is used by one request at a time and then again; regions are made as they are needed
and removed by `close`, or when the client is forgotten or its process ends without it. Should the
process be killed, Python's resource tracker removes those in /dev/shm, unless it is killed as well,
and `lprnet serve` forgets them. A forked process starts with none: its parent's are its parent's.
"""

from __future__ import annotations

import os
import secrets
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from clients.cuda_memory import CudaMemory, check_device
from clients.errors import ClientError, ConfigurationError
from clients.wire import Tensor, image_input
from lprnet import contract

PREFIX: Final = contract.CLIENT_REGION_PREFIX

_MIN_REGION_BYTES: Final = 1024 * 1024
_FOLDER: Final = Path("/dev/shm")
_LOAN_S: Final = 1.0


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
            try:
                _reserve(name, size_bytes)
            except OSError:
                self.free()
                raise
        except OSError as error:
            raise ConfigurationError(
                f"no shared memory to be had ({error.strerror}): make /dev/shm larger (--shm-size "
                "of a container) or switch shared_memory off"
            ) from error
        self.size_bytes = self._memory.size

    def write(self, content: npt.NDArray[np.uint8]) -> None:
        """Copy bytes to the beginning."""
        if self._memory.buf is None:
            raise ClientError("the client is closed")
        # Unlike np.ndarray, frombuffer keeps the memory mapped while it is written to.
        room = np.frombuffer(self._memory.buf, np.uint8, content.nbytes)
        room.reshape(content.shape)[:] = content

    def register(self, triton: Any, **call: Any) -> None:
        """Tell the server of it."""
        triton.register_system_shared_memory(self.name, f"/{self.name}", self.size_bytes, **call)

    def unregister(self, triton: Any, **call: Any) -> None:
        """Tell the server that it goes."""
        triton.unregister_system_shared_memory(self.name, **call)

    def free(self) -> None:
        """Remove it. Where somebody has removed its file already, nothing is wrong."""
        with suppress(BufferError):  # a thread still writes: it is unmapped when the process ends
            self._memory.close()
        try:
            self._memory.unlink()
        except FileNotFoundError:
            # As `unlink` would have done; else the tracker complains at the end.
            resource_tracker.unregister(f"/{self.name}", "shared_memory")


def _reserve(name: str, size_bytes: int) -> None:
    """Take the pages now: where they are missing later, the kernel kills the process that writes.

    Raises:
        OSError: when there is no room.
    """
    file = os.open(_FOLDER / name, os.O_RDWR)
    try:
        os.posix_fallocate(file, 0, size_bytes)
    finally:
        os.close(file)


@dataclass
class Region:
    """One region.

    Attributes:
        memory: where it lies.
        told: whether the server has been told, or may have been.
        registered: whether it has said that it knows.
    """

    memory: Memory
    told: bool = False
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
        self._closed = False
        self._start()
        _POOLS.add(self)

    def _start(self) -> None:
        self._free: list[Region] = []
        self._all: list[Region] = []
        self._lock = threading.Condition()
        # For a client that nobody closes.
        self._finalizer = weakref.finalize(self, _free_all, self._all, os.getpid())

    def forget(self) -> None:
        """In a forked process: leave everything to the parent."""
        self._finalizer.detach()
        self._start()

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
                self._lock.notify_all()

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
        """Hand out all regions for removal; the pool gives none after that.

        Waits up to a second for those on loan: their calls have been ended.
        """
        with self._lock:
            self._closed = True
            self._lock.wait_for(lambda: len(self._free) == len(self._all), _LOAN_S)
            regions = self._all[:]
            self._all.clear()
            self._free.clear()
            return regions


def _free_all(regions: list[Region], process: int) -> None:
    if process == os.getpid():  # a forked process ends as well
        for region in regions:
            region.memory.free()


_POOLS: weakref.WeakSet[RegionPool] = weakref.WeakSet()


def _forget_all() -> None:
    for pool in list(_POOLS):
        pool.forget()


if hasattr(os, "register_at_fork"):  # elsewhere nothing forks
    os.register_at_fork(after_in_child=_forget_all)


def image_bytes(pictures: Sequence[bytes]) -> int:
    """Room that `Region.put_images` needs."""
    return sum(4 + len(data) for data in pictures)
