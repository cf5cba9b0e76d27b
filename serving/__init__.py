"""Starts, proves, watches and ends tritonserver with the model repository."""

from __future__ import annotations

from serving.errors import PreflightError, ProbeError, ServingError, StartError
from serving.options import ServerOptions
from serving.server import TritonServer

__all__ = [
    "PreflightError",
    "ProbeError",
    "ServerOptions",
    "ServingError",
    "StartError",
    "TritonServer",
]
