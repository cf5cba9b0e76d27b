"""The gRPC channel on which plates are asked for, blocking or asyncio."""

from __future__ import annotations

from typing import Any, Final

import grpc  # type: ignore[import-untyped]
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

from clients.options import ClientOptions

_METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"


def open_channel(url: str, options: ClientOptions, *, asyncio: bool = False) -> Any:
    """A `grpc.Channel`, or a `grpc.aio.Channel`.

    It is opened as tritonclient opens its own, so that gRPC has one connection for both.

    Raises:
        ConfigurationError: for certificates that cannot be read.
    """
    kind = grpc.aio if asyncio else grpc
    if options.tls is None:
        return kind.insecure_channel(url, options.channel_args(url))
    return kind.secure_channel(url, options.tls.credentials(), options.channel_args(url))


def infer_call(channel: Any) -> Any:
    """ModelInfer of Triton's gRPC service as a function of its request message."""
    return channel.unary_unary(
        _METHOD,
        request_serializer=service_pb2.ModelInferRequest.SerializeToString,
        response_deserializer=service_pb2.ModelInferResponse.FromString,
    )
