"""Read plates through a Triton server: the blocking client.

Example:
    with PlateClient("127.0.0.1:8001") as client:
        print(client.read_image(Path("plate.jpg").read_bytes()).plate)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Sequence
from functools import partial
from types import TracebackType

import numpy as np
import numpy.typing as npt

from clients import wire
from clients.connection import Connection
from clients.errors import InvalidPicture, ModelNotFound
from clients.files import read_file_batch
from clients.flow import map_batches
from clients.options import ClientOptions
from clients.repair import read_each
from clients.result import FileReading, Outcome, PlateReading
from clients.shared_memory import image_bytes
from lprnet import contract


class PlateClient:
    """One connection, kept open until `close` or the end of the `with` block.

    Safe to use from several threads. The server is asked nothing before the first reading.

    Programs that want lone pictures 0.05 to 0.15 ms sooner set the environment variable
    GRPC_EXPERIMENTS to `-event_engine_client` before anything imports grpc: answers then come
    straight to the thread that waits for them (measured with grpcio 1.85).

    Args:
        url: HOST:PORT of the server's gRPC port; None: the environment variable LPRNET_URL, or
            127.0.0.1:8001.
        options: deadlines, retries, certificates, shared memory.

    Raises:
        ConfigurationError: for a malformed address or certificates that cannot be read.

    Every method that reads raises ServerUnavailable, DeadlineExceeded or ServerError when the
    server, and not a picture, is to blame.
    """

    def __init__(self, url: str | None = None, options: ClientOptions | None = None) -> None:
        self.options = ClientOptions() if options is None else options
        self._connection = Connection(url, self.options)
        self._asking = threading.Lock()
        self._images: wire.ImageContract | None = None
        self._crops: wire.CropContract | None = None

    def __enter__(self) -> PlateClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and remove shared memory; calls under way end with an error."""
        self._connection.close()

    @property
    def url(self) -> str:
        """HOST:PORT of the server."""
        return self._connection.url

    @property
    def retries(self) -> int:
        """Calls that were repeated so far."""
        return self._connection.retries

    @property
    def image_contract(self) -> wire.ImageContract:
        """Largest batch and limits for encoded pictures; asked of the server once."""
        if self._images is None:
            with self._asking:
                if self._images is None:
                    self._images = self._ask_image_contract()
        return self._images

    def _ask_image_contract(self) -> wire.ImageContract:
        ensemble = self._connection.model_config(contract.IMAGE_ENSEMBLE)
        try:
            decoder = self._connection.model_config(contract.IMAGE_DECODER_MODEL)
        except ModelNotFound:
            decoder = None
        return wire.image_contract(ensemble, decoder)

    @property
    def crop_contract(self) -> wire.CropContract:
        """Largest batch and shape for crops; asked of the server once."""
        if self._crops is None:
            with self._asking:
                if self._crops is None:
                    config = self._connection.model_config(contract.CROP_ENSEMBLE)
                    self._crops = wire.crop_contract(config)
        return self._crops

    def read_image(self, picture: bytes) -> PlateReading:
        """Read one JPEG, PNG, WebP or BMP file.

        Raises:
            InvalidPicture: when it is none, is damaged or exceeds the server's limits.
        """
        outcome = self._read_batch([wire.as_bytes(picture)])[0]
        if isinstance(outcome, InvalidPicture):
            raise outcome
        return outcome

    def read_images(self, pictures: Iterable[bytes]) -> list[Outcome]:
        """Read encoded pictures, any number of them; the answers come in the same order.

        A picture that cannot be read gets its InvalidPicture in its own place.
        """
        if isinstance(pictures, Sequence) and len(pictures) <= self.image_contract.max_batch:
            batches = list(wire.batches_of(pictures, self.image_contract.max_batch))
            if len(batches) == 1:  # no thread needed
                return self._read_batch(batches[0])
        return list(self.iter_images(pictures))

    def iter_images(self, pictures: Iterable[bytes]) -> Generator[Outcome, None, None]:
        """Like `read_images` for a stream of any length, in bounded memory.

        A picture leaves at once, together with those that came meanwhile; its outcome comes as soon
        as it and those before it are there. `pictures` is gone through in a thread of its own.
        What it raises comes behind the outcomes of the pictures before.
        """
        yield from map_batches(
            self._read_batch,
            map(wire.as_bytes, pictures),
            size=self.image_contract.max_batch,
            in_flight=self.options.in_flight,
            bytes_of=len,
            max_bytes=wire.MAX_REQUEST_BYTES,
        )

    def read_crops(self, crops: npt.NDArray[np.uint8]) -> list[PlateReading]:
        """Read crops that are at hand as pixels.

        Args:
            crops: UINT8 [N, 3, 48, 96], RGB, 0..255, any N (`lprnet.image.to_crop` makes one).

        Raises:
            ConfigurationError: for another type or shape than the server takes.
        """
        wire.check_crops(crops, self.crop_contract.shape)
        size = self.crop_contract.max_batch
        if len(crops) <= size:  # no thread needed
            return self._send_crops(crops) if len(crops) else []
        batches = (crops[at : at + size] for at in range(0, len(crops), size))
        return list(
            map_batches(
                lambda parts: self._send_crops(parts[0]),
                batches,
                size=1,
                in_flight=self.options.in_flight,
            )
        )

    def read_files(self, paths: Iterable[str]) -> list[FileReading]:
        """Read picture files; one entry a path in the same order, with its error if it has one.

        Raises:
            TypeError: for one path instead of several.
        """
        return list(self.iter_files(paths))

    def iter_files(self, paths: Iterable[str]) -> Generator[FileReading, None, None]:
        """Like `read_files` for a stream of any length, as `iter_images`."""
        if isinstance(paths, str | bytes):
            raise TypeError(f"several paths are wanted, not one: [{paths!r}]")
        terms = self.image_contract

        def read(batch: list[str]) -> list[FileReading]:
            return read_file_batch(batch, terms, self._read_batch)

        yield from map_batches(read, paths, size=terms.max_batch, in_flight=self.options.in_flight)

    def _read_batch(self, pictures: list[bytes]) -> list[Outcome]:
        limits = self.image_contract.limits
        end_s = time.monotonic() + self.options.timeout_s  # of all that the batch takes
        return read_each(pictures, limits, partial(self._send_images, end_s=end_s))

    def _send_images(self, pictures: list[bytes], end_s: float) -> list[PlateReading]:
        connection, model = self._connection, contract.IMAGE_ENSEMBLE
        if connection.regions is None:
            result = connection.infer(model, wire.image_input(pictures), end_s)
        else:
            with connection.regions.loan(image_bytes(pictures)) as region:
                result = connection.infer(model, region.put_images(pictures), end_s, region)
        return wire.readings(result, len(pictures))

    def _send_crops(self, crops: npt.NDArray[np.uint8]) -> list[PlateReading]:
        connection, model = self._connection, contract.CROP_ENSEMBLE
        end_s = time.monotonic() + self.options.timeout_s
        if connection.regions is None:
            result = connection.infer(model, wire.crop_input(crops), end_s)
        else:
            with connection.regions.loan(crops.nbytes) as region:
                result = connection.infer(model, region.put_crops(crops), end_s, region)
        return wire.readings(result, len(crops))
