"""A tritonserver of the load test's own: free ports, shared memory open to its clients."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]

from serving import ServerOptions, TritonServer
from serving.options import DEFAULT_REPOSITORY

READY_TIMEOUT_S: Final = 120.0


def bench_server(repository: Path | None = None, profile: str = "auto") -> TritonServer:
    """A server that is not started yet; use it as a context manager.

    Without a watchdog (its probes are load), and with the shared-memory protocol open: whoever
    measures it is on this machine.
    """
    return TritonServer(
        ServerOptions(
            repository=DEFAULT_REPOSITORY if repository is None else repository,
            profile=profile,
            grpc_port=0,
            http_port=0,
            metrics_port=0,
            health_port=0,
            open_protocols=frozenset({"shared-memory"}),
            ready_timeout_s=READY_TIMEOUT_S,
            watchdog=False,
        )
    )


def server_processes(server: TritonServer) -> list[psutil.Process]:
    """tritonserver and its Python stubs."""
    root = psutil.Process(server.launched.pid)
    return [root, *root.children(recursive=True)]
