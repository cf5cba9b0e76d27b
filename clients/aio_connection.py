"""An asyncio gRPC connection to Triton: deadlines and retries. Knows no plates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]
from tritonclient.grpc.aio import InferenceServerClient  # type: ignore[import-untyped]
from tritonclient.utils import InferenceServerException  # type: ignore[import-untyped]

from clients.channel import infer_call, open_channel
from clients.errors import (
    ClientError,
    ConfigurationError,
    DeadlineExceeded,
    ServerUnavailable,
    from_grpc,
    from_triton,
)
from clients.options import ClientOptions, resolve_url
from clients.retry import Attempts, RequestIds, RetryBudget
from clients.wire import Tensor, infer_request

Answer = TypeVar("Answer")


@dataclass
class TimeLeft:
    """Of the deadline that several requests share; the wait for their turn is not counted."""

    seconds: float


class AsyncConnection:
    """See `clients.connection.Connection`; for one event loop, without shared memory.

    It belongs to the loop of its first call: what it is made of is opened there.
    """

    def __init__(self, url: str | None, options: ClientOptions) -> None:
        self.url = resolve_url(url)
        self.options = options
        self._headers = dict(options.headers)
        self._metadata = tuple(options.headers.items())
        self._budget = RetryBudget(options.retry)
        self._ids = RequestIds()
        self._slots = asyncio.Semaphore(options.in_flight)
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._triton: Any = None  # these three: opened by the first call
        self._channel: Any = None
        self._infer: Any = None
        if options.tls is not None:
            options.tls.credentials()  # raises now what else the first call would raise

    @property
    def retries(self) -> int:
        """Calls repeated so far."""
        return self._budget.spent

    async def model_config(self, model: str) -> Any:
        """The server's ModelConfig protobuf of a model.

        Raises:
            ServerUnavailable: when nobody answers within `connect_timeout_s`.
            ConfigurationError: in another event loop than before.
        """
        self._open()
        wait_s = self.options.connect_timeout_s
        try:
            answer = await self._call(
                wait_s,
                lambda left_s: self._triton.get_model_config(
                    model, headers=self._headers, client_timeout=left_s
                ),
            )
        except DeadlineExceeded:
            raise ServerUnavailable(
                f"no server answers at {self.url} within {wait_s:g} s"
            ) from None
        return answer.config

    async def infer(self, model: str, tensor: Tensor, left: TimeLeft) -> Any:
        """ModelInferResponse to one request, sent when one of `in_flight` slots is free.

        Args:
            left: what the request may take once it is sent; less what it took afterwards.
        """
        self._open()
        request_id = self._ids.next()
        async with self._slots:
            # Made here: of many that wait for a slot none needs its message yet.
            request = infer_request(model, tensor, request_id, self.options.priority)
            begin_s = time.monotonic()
            try:
                return await self._call(
                    left.seconds,
                    lambda left_s: self._infer(request, timeout=left_s, metadata=self._metadata),
                    request_id,
                )
            finally:
                left.seconds -= time.monotonic() - begin_s

    async def close(self) -> None:
        """Close the connection; calls under way end with an error. Closing twice is harmless."""
        if not self._closed:
            self._closed = True
            if self._loop is not None:
                await self._channel.close()
                await self._triton.close()
                # gRPC's asyncio side keeps a thread that polls for the whole process, and slows
                # blocking calls down by 0.3 ms, until the last channel is freed.
                self._triton = self._channel = self._infer = None

    def _open(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None and not self._closed:
            options = self.options
            # For all but plates.
            self._triton = InferenceServerClient(
                self.url,
                creds=None if options.tls is None else options.tls.credentials(),
                channel_args=options.channel_args(self.url),
            )
            self._channel = open_channel(self.url, options, asyncio=True)
            self._infer = infer_call(self._channel)
            self._loop = loop
        elif self._loop is not loop and not self._closed:
            raise ConfigurationError(
                "an AsyncPlateClient belongs to the event loop of its first call: make one for each"
            )

    async def _call(
        self,
        timeout_s: float,
        attempt: Callable[[float], Awaitable[Answer]],
        request_id: str = "",
    ) -> Answer:
        attempts = Attempts(self._budget, timeout_s, request_id)
        while True:
            if self._closed:
                raise ClientError("the client is closed")
            try:
                answer = await attempt(attempts.left_s)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._closed and task is not None and not task.cancelling():  # not the caller's
                    raise ClientError("the client is closed") from None
                raise
            except grpc.RpcError as error:
                await asyncio.sleep(attempts.pause_s(from_grpc(error, self.url)))
            except InferenceServerException as error:
                await asyncio.sleep(attempts.pause_s(from_triton(error, self.url)))
            else:
                attempts.succeeded()
                return answer
