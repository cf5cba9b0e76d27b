"""Clients of the plate server: a typed library over Triton's gRPC, and the programs on it.

Example:
    from clients import PlateClient

    with PlateClient("127.0.0.1:8001") as client:
        for row in client.read_files(["a.jpg", "b.jpg"]):
            print(row.error if row.reading is None else row.reading.plate)
"""

from __future__ import annotations

from clients.aio import AsyncPlateClient
from clients.client import PlateClient
from clients.errors import (
    AccessDenied,
    ClientError,
    ConfigurationError,
    DeadlineExceeded,
    InvalidPicture,
    ModelNotFound,
    ServerError,
    ServerUnavailable,
)
from clients.options import ClientOptions, Tls
from clients.result import FileReading, Outcome, PlateReading
from clients.retry import RetryPolicy

__all__ = [
    "AccessDenied",
    "AsyncPlateClient",
    "ClientError",
    "ClientOptions",
    "ConfigurationError",
    "DeadlineExceeded",
    "FileReading",
    "InvalidPicture",
    "ModelNotFound",
    "Outcome",
    "PlateClient",
    "PlateReading",
    "RetryPolicy",
    "ServerError",
    "ServerUnavailable",
    "Tls",
]
