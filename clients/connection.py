"""A blocking gRPC connection to Triton: deadlines, retries, shared memory. Knows no plates."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final, TypeVar

import grpc  # type: ignore[import-untyped]
from tritonclient.grpc import (  # type: ignore[import-untyped]
    InferenceServerClient,
)
from tritonclient.utils import InferenceServerException  # type: ignore[import-untyped]

from clients.channel import infer_call, open_channel
from clients.errors import (
    AccessDenied,
    ClientError,
    DeadlineExceeded,
    RegionLost,
    ServerError,
    ServerUnavailable,
    from_grpc,
    from_triton,
)
from clients.options import ClientOptions, resolve_url
from clients.retry import Attempts, RequestIds, RetryBudget
from clients.shared_memory import Region, RegionPool
from clients.wire import Tensor, infer_request

Answer = TypeVar("Answer")
_LOG: Final = logging.getLogger(__name__)

_IN_USE: Final = "currently in use"  # Triton 24.10's words
_IN_USE_TRIES: Final = 50
_IN_USE_PAUSE_S: Final = 0.02


class Connection:
    """See `clients.client.PlateClient`, which is this with plates. Safe to use from threads."""

    def __init__(self, url: str | None, options: ClientOptions) -> None:
        self.url = resolve_url(url)
        self.options = options
        wanted = options.shared_memory or options.cuda_device is not None
        self.regions = RegionPool(options.cuda_device) if wanted else None
        self._headers = dict(options.headers)
        self._metadata = tuple(options.headers.items())
        self._budget = RetryBudget(options.retry)
        self._ids = RequestIds()
        self._closed = threading.Event()
        # For all but plates.
        self._triton = InferenceServerClient(
            self.url,
            creds=None if options.tls is None else options.tls.credentials(),
            channel_args=options.channel_args(self.url),
        )
        self._channel = open_channel(self.url, options)
        self._infer = infer_call(self._channel)

    @property
    def retries(self) -> int:
        """Calls repeated so far."""
        return self._budget.spent

    def model_config(self, model: str) -> Any:
        """The server's ModelConfig protobuf of a model; the first call that a client makes.

        Raises:
            ServerUnavailable: when nobody answers within `connect_timeout_s`.
        """
        wait_s = self.options.connect_timeout_s
        attempts = Attempts(self._budget, wait_s)
        try:
            return self._call(
                attempts,
                lambda: self._triton.get_model_config(
                    model, headers=self._headers, client_timeout=attempts.left_s
                ),
            ).config
        except DeadlineExceeded:
            raise ServerUnavailable(
                f"no server answers at {self.url} within {wait_s:g} s"
            ) from None

    def infer(self, model: str, tensor: Tensor, end_s: float, region: Region | None = None) -> Any:
        """ModelInferResponse to one request.

        Args:
            tensor: lies in `region` where one is named.
            end_s: deadline, of `time.monotonic`.
        """
        request_id = self._ids.next()
        attempts = Attempts(self._budget, end_s - time.monotonic(), request_id)
        request = infer_request(model, tensor, request_id, self.options.priority)

        def attempt() -> Any:
            if region is not None and not region.registered:
                self._register(region, attempts.left_s)
            return self._infer(request, attempts.left_s, self._metadata)

        try:
            return self._call(attempts, attempt)
        except AccessDenied as error:
            if region is None or region.registered:
                raise
            raise AccessDenied(
                error.code, f"{error.message}. `lprnet serve --open shared-memory` lets clients in"
            ) from error
        except RegionLost:
            if region is None:
                raise
            region.registered = False  # another server runs there now
            return self._call(attempts, attempt)

    def close(self) -> None:
        """Close the connection; calls under way end with an error. Closing twice is harmless."""
        if self._closed.is_set():
            return
        self._closed.set()
        with ExitStack() as at_last:  # whatever happens before
            at_last.callback(self._triton.close)
            at_last.callback(self._channel.close)
            if self.regions is None:
                return
            self._channel.close()  # ends the calls under way: nobody reads their regions
            regions = self.regions.drain()
            for region in regions:
                at_last.callback(region.memory.free)
            self._unregister([region for region in regions if region.told])

    def _register(self, region: Region, left_s: float) -> None:
        region.told = True  # before the call: `close` may come in between
        try:
            region.memory.register(self._triton, headers=self._headers, client_timeout=left_s)
        except InferenceServerException as error:
            # Its name is nobody else's: an earlier registration whose answer got lost.
            if error.status() != "StatusCode.ALREADY_EXISTS":
                raise
        region.registered = True

    def _unregister(self, regions: Sequence[Region]) -> None:
        """Tell the server, which else keeps the memory mapped. Nobody waits for it twice."""
        for region in regions:
            try:
                self._unregister_one(region)
            except InferenceServerException as error:
                refused = from_triton(error, self.url)
                # A server that is gone has forgotten its regions.
                if not isinstance(refused, ServerUnavailable):
                    _LOG.warning("the server keeps shared memory of this client: %s", refused)
                if not isinstance(refused, ServerError):
                    return

    def _unregister_one(self, region: Region) -> None:
        for tries_left in reversed(range(_IN_USE_TRIES)):
            try:
                region.memory.unregister(self._triton, headers=self._headers, client_timeout=1.0)
            except InferenceServerException as error:
                # Triton answers a request before it lets go of what the request came in.
                if _IN_USE not in str(error) or not tries_left:
                    raise
                time.sleep(_IN_USE_PAUSE_S)
            else:
                return

    def _call(self, attempts: Attempts, attempt: Callable[[], Answer]) -> Answer:
        while True:
            if self._closed.is_set():
                raise ClientError("the client is closed")
            try:
                answer = attempt()
            except grpc.RpcError as error:
                if self._closed.is_set():
                    raise ClientError("the client is closed") from error
                self._closed.wait(attempts.pause_s(from_grpc(error, self.url)))
            except InferenceServerException as error:
                self._closed.wait(attempts.pause_s(from_triton(error, self.url)))
            except ValueError as error:  # grpc's answer when close() came in between
                if self._closed.is_set():
                    raise ClientError("the client is closed") from error
                raise
            else:
                attempts.succeeded()
                return answer
