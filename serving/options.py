"""What a user may choose about a server and its watchdog."""

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
        host: address of gRPC; 0.0.0.0 for all interfaces.
        grpc_port, http_port, metrics_port, health_port: 0 picks a free one.
        http_host: address of Triton's HTTP, apart from `host`: it knows no TLS, and one hostile
            request ends tritonserver (SECURITY.md).
        metrics_host: address of the metrics, apart from `host`.
        open_protocols: those of `PROTECTED` that every client may use.
        log_level: least severe lines of tritonserver that are passed on, one of `LOG_LEVELS`.
        ready_timeout_s: from the start to a right answer to the probe.
        exit_timeout_s: time for running requests when it stops; SIGKILL follows.
        watchdog: watch the server and recover it.
        health_host, health_port: address of the watchdog's /healthz, /readyz and /metrics.
        tls_cert, tls_key: PEM files of the server's certificate chain and its key: gRPC takes TLS
            only, and HTTP, which has none, must stay on the loopback.
        tls_client_ca: PEM file of the authorities whose certificates clients must show.
        trace_url: OpenTelemetry collector (OTLP over HTTP); None traces nothing.
        trace_rate: one request in so many is traced.
        tritonserver: program to use instead of the one that is found.
    """

    repository: Path = DEFAULT_REPOSITORY
    profile: str = "auto"
    host: str = "127.0.0.1"
    grpc_port: int = 8001
    http_port: int = 8000
    http_host: str = "127.0.0.1"
    metrics_port: int = 8002
    metrics_host: str = "127.0.0.1"
    open_protocols: frozenset[str] = field(default_factory=frozenset)
    log_level: str = "warning"
    ready_timeout_s: float = 60.0
    exit_timeout_s: int = 10
    watchdog: bool = True
    health_host: str = "127.0.0.1"
    health_port: int = 8003
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    trace_url: str | None = None
    trace_rate: int = 1000
    tritonserver: Path | None = None


@dataclass(frozen=True)
class WatchdogOptions:
    """How a watchdog watches.

    Attributes:
        probe_interval_s: from one reading of the known plate to the next.
        probe_timeout_s: for the answer of each ensemble.
        failures: bad probes in a row that count as a fault when no process is dead or held.
        load_timeout_s: to load a model anew; a new server after that.
        confirm_s: from a remedy to the right answer; a new server after that.
        reloads_per_minute: more of them, and a new server is tried.
        max_pause_s: longest pause between two starts of a server that does not stay.
        regions_interval_s: from one look for shared memory of killed clients to the next: seldom
            enough to cost nothing, often enough that a client which dies every second has a few
            dozen regions of a megabyte and more waiting, and not a machine's memory.
    """

    probe_interval_s: float = 1.0
    probe_timeout_s: float = 2.0
    failures: int = 2
    load_timeout_s: float = 30.0
    confirm_s: float = 10.0
    reloads_per_minute: int = 20
    max_pause_s: float = 30.0
    regions_interval_s: float = 30.0
