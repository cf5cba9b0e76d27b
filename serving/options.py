"""What a user may choose about a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
DEFAULT_REPOSITORY: Final = ROOT / "model_repository"

LOG_LEVELS: Final = ("verbose", "info", "warning", "error")
PROTECTED: Final = ("model-repository", "shared-memory", "trace", "logging")
"""Triton's protocols that change the server or its memory: closed without the server's key."""


@dataclass(frozen=True)
class ServerOptions:
    """Everything about one server; the defaults serve this machine only.

    Attributes:
        repository: assembled model repository.
        profile: "auto", "tensorrt", "cpu", "onnxruntime" or "openvino".
        host: address of gRPC and HTTP; 0.0.0.0 for all interfaces.
        grpc_port, http_port, metrics_port: 0 picks a free one.
        metrics_host: address of the metrics, apart from `host`.
        open_protocols: those of `PROTECTED` that every client may use.
        log_level: least severe lines of tritonserver that are passed on, one of `LOG_LEVELS`.
        ready_timeout_s: from the start to a right answer to the probe.
        exit_timeout_s: time for running requests when it stops; SIGKILL follows.
        tritonserver: program to use instead of the one that is found.
    """

    repository: Path = DEFAULT_REPOSITORY
    profile: str = "auto"
    host: str = "127.0.0.1"
    grpc_port: int = 8001
    http_port: int = 8000
    metrics_port: int = 8002
    metrics_host: str = "127.0.0.1"
    open_protocols: frozenset[str] = field(default_factory=frozenset)
    log_level: str = "warning"
    ready_timeout_s: float = 60.0
    exit_timeout_s: int = 10
    tritonserver: Path | None = None
