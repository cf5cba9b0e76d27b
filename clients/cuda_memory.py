"""Regions in a GPU's memory that carry pictures to a server on the same machine.

Needs an NVIDIA GPU with its driver and `cuda-python`, which tritonclient uses for it; both are
looked for when a client is made, so that the first picture does not find out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from clients.errors import ClientError, ConfigurationError

_ADVICE = "take shared_memory (system) or the plain connection"


@dataclass
class CudaMemory:
    """One allocation; see `clients.shared_memory.SystemMemory`.

    Raises:
        ConfigurationError: where there is no such GPU, or no room on it.
    """

    name: str
    size_bytes: int
    device: int

    def __post_init__(self) -> None:
        self._cuda = cuda_module()
        try:
            self._handle: Any = self._cuda.create_shared_memory_region(
                self.name, self.size_bytes, self.device
            )
        except Exception as error:  # cuda-python without a driver raises what it likes
            raise ConfigurationError(
                f"no CUDA shared memory on GPU {self.device} ({_first_line(error)}): {_ADVICE}"
            ) from error

    def write(self, content: npt.NDArray[np.uint8]) -> None:
        """Copy bytes to the beginning of the region. Raises ClientError when the GPU refuses."""
        with self._told():
            self._cuda.set_shared_memory_region(self._handle, [content])

    def register(self, triton: Any, **call: Any) -> None:
        """Tell the server of it. Raises ClientError when the GPU gives no handle."""
        with self._told():
            handle = self._cuda.get_raw_handle(self._handle)
        triton.register_cuda_shared_memory(self.name, handle, self.device, self.size_bytes, **call)

    def unregister(self, triton: Any, **call: Any) -> None:
        """Tell the server that it goes."""
        triton.unregister_cuda_shared_memory(self.name, **call)

    def free(self) -> None:
        """Give the memory back."""
        self._cuda.destroy_shared_memory_region(self._handle)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # as above
            raise ClientError(
                f"CUDA shared memory on GPU {self.device} failed ({_first_line(error)}): {_ADVICE}"
            ) from error


def cuda_module() -> Any:
    """tritonclient's CUDA shared memory.

    Raises:
        ConfigurationError: when what it needs is not installed.
    """
    try:
        return import_module("tritonclient.utils.cuda_shared_memory")
    except (RuntimeError, ImportError) as error:  # RuntimeError: tritonclient's, for cuda-python
        raise ConfigurationError(
            f"CUDA shared memory needs an NVIDIA GPU and `pip install cuda-python`: {_ADVICE}"
        ) from error


def check_device(device: int) -> None:
    """Raise ConfigurationError unless a region can be made on that GPU."""
    CudaMemory("lprnet_client_check", 1, device).free()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
