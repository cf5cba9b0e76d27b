"""Where a server listens, and how this machine reaches it."""

from __future__ import annotations

import socket
from dataclasses import replace

from serving import preflight
from serving.errors import PreflightError
from serving.options import ServerOptions


def reachable(host: str) -> str:
    """Address at which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)


def listens(address: tuple[str, int]) -> bool:
    """Whether somebody accepts connections there."""
    try:
        with socket.create_connection(address, timeout=1):
            return True
    except OSError:
        return False


def resolve_ports(options: ServerOptions) -> ServerOptions:
    """Replace each port 0 by a free one; check that the others are free."""
    chosen: list[int] = []
    for what, host, port, option in (
        ("gRPC", options.host, options.grpc_port, "--grpc-port"),
        ("HTTP", options.http_host, options.http_port, "--http-port"),
        ("metrics", options.metrics_host, options.metrics_port, "--metrics-port"),
        ("health", options.health_host, options.health_port, "--health-port"),
    ):
        if ":" in host and what != "health":  # its own check finds every port taken there
            raise PreflightError(
                f"Triton's {what} does not listen on {host}: give an IPv4 address, "
                "such as 0.0.0.0, and put a proxy in front for IPv6"
            )
        if port in chosen and port != 0:
            raise PreflightError(f"{option} {port} is another port of this server already")
        if port != 0:
            preflight.check_port(what, host, port, option)
        chosen.append(port if port != 0 else preflight.free_port(host, chosen))
    grpc_port, http_port, metrics_port, health_port = chosen
    return replace(
        options,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        health_port=health_port,
    )
