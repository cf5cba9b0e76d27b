"""Read plates through a Triton server: the asyncio client.

Example:
    async with AsyncPlateClient("127.0.0.1:8001") as client:
        readings = await asyncio.gather(*(client.read_image(data) for data in pictures))

Single pictures that are read at the same time travel together: while a request is on its way,
the calls that come in are gathered into the next one. Nobody waits for a batch to fill.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Coroutine, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from clients import wire
from clients.aio_connection import AsyncConnection, TimeLeft
from clients.batching import Batcher, Shared
from clients.errors import ConfigurationError, InvalidPicture, ModelNotFound
from clients.options import ClientOptions
from clients.repair import plan
from clients.result import Outcome, PlateReading
from lprnet import contract

Answer = TypeVar("Answer")
UInt8Array = npt.NDArray[np.uint8]


class AsyncPlateClient:
    """Like `clients.PlateClient`, for one event loop.

    Args and errors are the same; `ClientOptions.in_flight` bounds the requests on their way.
    Shared memory is for the blocking client: writing to it would hold up the loop.

    While one is open, gRPC keeps a thread that polls for the whole process and slows blocking calls
    down by 0.3 ms: a `PlateClient` that must be quick belongs in another process.
    """

    def __init__(self, url: str | None = None, options: ClientOptions | None = None) -> None:
        self.options = ClientOptions() if options is None else options
        if self.options.shared_memory or self.options.cuda_device is not None:
            raise ConfigurationError("AsyncPlateClient has no shared memory: use PlateClient")
        self._connection = AsyncConnection(url, self.options)
        in_flight = self.options.in_flight
        self._pictures: Batcher[bytes, Outcome] = Batcher(self._read_some, in_flight)
        self._single_crops: Batcher[UInt8Array, PlateReading] = Batcher(self._stack, in_flight)
        self._asking_for_images: Shared[wire.ImageContract] = Shared()
        self._asking_for_crops: Shared[wire.CropContract] = Shared()
        self._images: wire.ImageContract | None = None
        self._crops: wire.CropContract | None = None

    async def __aenter__(self) -> AsyncPlateClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way end with an error."""
        await self._pictures.close()
        await self._single_crops.close()
        await self._connection.close()

    @property
    def url(self) -> str:
        """HOST:PORT of the server."""
        return self._connection.url

    @property
    def retries(self) -> int:
        """Calls that were repeated so far."""
        return self._connection.retries

    async def image_contract(self) -> wire.ImageContract:
        """Largest batch and limits for encoded pictures; asked of the server once."""
        if self._images is None:
            self._images = await self._asking_for_images(self._ask_image_contract)
            self._pictures.limit = self._images.max_batch
        return self._images

    async def _ask_image_contract(self) -> wire.ImageContract:
        ensemble = await self._connection.model_config(contract.IMAGE_ENSEMBLE)
        try:
            decoder = await self._connection.model_config(contract.IMAGE_DECODER_MODEL)
        except ModelNotFound:
            decoder = None
        return wire.image_contract(ensemble, decoder)

    async def crop_contract(self) -> wire.CropContract:
        """Largest batch and shape for crops; asked of the server once."""
        if self._crops is None:
            self._crops = await self._asking_for_crops(self._ask_crop_contract)
            self._single_crops.limit = self._crops.max_batch
        return self._crops

    async def _ask_crop_contract(self) -> wire.CropContract:
        return wire.crop_contract(await self._connection.model_config(contract.CROP_ENSEMBLE))

    async def read_image(self, picture: bytes) -> PlateReading:
        """Read one encoded picture, in a batch with others that are read at this moment.

        Raises:
            InvalidPicture: when it is no picture, is damaged or exceeds the server's limits.
        """
        outcome = await self._pictures.submit(wire.as_bytes(picture))
        if isinstance(outcome, InvalidPicture):
            raise outcome
        return outcome

    async def read_images(self, pictures: Sequence[bytes]) -> list[Outcome]:
        """Read encoded pictures, any number of them; the answers come in the same order."""
        return await self._read_some(list(pictures))

    async def read_crop(self, crop: UInt8Array) -> PlateReading:
        """Read one crop, UINT8 [3, 48, 96] RGB 0..255, in a batch with others of this moment.

        Raises:
            ConfigurationError: for another type or shape than the server takes.
        """
        terms = await self.crop_contract()
        wire.check_crop(crop, terms.shape)
        return await self._single_crops.submit(crop)

    async def read_crops(self, crops: UInt8Array) -> list[PlateReading]:
        """Read crops, UINT8 [N, 3, 48, 96] RGB 0..255, any N."""
        terms = await self.crop_contract()
        wire.check_crops(crops, terms.shape)
        size = terms.max_batch
        return await _joined(
            [self._send_crops(crops[at : at + size]) for at in range(0, len(crops), size)]
        )

    async def stream_images(self, pictures: AsyncIterable[bytes]) -> AsyncGenerator[Outcome, None]:
        """Read pictures as they come, outcomes in the same order, in bounded memory.

        A picture leaves at once, together with those that came meanwhile. Requests are single
        calls and not messages of one gRPC stream: Triton's stream gives errors without a code
        and no deadline to a request, and when it breaks, all that was on it must be asked again.
        What a stream saves is less than what the gathering saves (load_tests/NOTES.md).
        """
        terms = await self.image_contract()
        waiting: asyncio.Queue[asyncio.Future[Outcome] | None] = asyncio.Queue(
            2 * self.options.in_flight * terms.max_batch
        )

        async def feed() -> None:
            try:
                async for picture in pictures:
                    outcome = self._pictures.submit(wire.as_bytes(picture))
                    try:
                        await waiting.put(outcome)
                    except asyncio.CancelledError:
                        outcome.cancel()  # nobody will look at it
                        raise
            finally:
                await waiting.put(None)

        feeder = asyncio.create_task(feed())
        try:
            while (pending := await waiting.get()) is not None:
                yield await pending
            await feeder  # raises what `pictures` raised
        finally:
            feeder.cancel()
            while not waiting.empty():  # makes room for the feeder's last word, too
                left = waiting.get_nowait()
                if left is not None:
                    left.cancel()

    async def _read_some(self, pictures: list[bytes]) -> list[Outcome]:
        terms = await self.image_contract()
        batches = list(wire.batches_of(pictures, terms.max_batch))
        return await _joined([self._read_batch(batch, terms) for batch in batches])

    async def _read_batch(self, pictures: list[bytes], terms: wire.ImageContract) -> list[Outcome]:
        steps = plan(pictures, terms.limits)
        left = TimeLeft(self.options.timeout_s)  # for all that the batch takes
        try:
            request = next(steps)
            while True:
                try:
                    answer: list[PlateReading] | InvalidPicture = await self._send_images(
                        request, left
                    )
                except InvalidPicture as refusal:
                    answer = refusal
                request = steps.send(answer)
        except StopIteration as stop:
            outcomes: list[Outcome] = stop.value
            return outcomes

    async def _send_images(self, pictures: list[bytes], left: TimeLeft) -> list[PlateReading]:
        tensor = wire.image_input(pictures)
        result = await self._connection.infer(contract.IMAGE_ENSEMBLE, tensor, left)
        return wire.readings(result, len(pictures))

    async def _stack(self, crops: list[UInt8Array]) -> list[PlateReading]:
        return await self._send_crops(np.stack(crops))

    async def _send_crops(self, crops: UInt8Array) -> list[PlateReading]:
        tensor, left = wire.crop_input(crops), TimeLeft(self.options.timeout_s)
        result = await self._connection.infer(contract.CROP_ENSEMBLE, tensor, left)
        return wire.readings(result, len(crops))


async def _joined(calls: Sequence[Coroutine[Any, Any, list[Answer]]]) -> list[Answer]:
    """Results of all calls one after another; the first error ends the others."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        parts = await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
    return [value for part in parts for value in part]
