"""The command line of `lprnet serve`: an option for each field of `ServerOptions`, by its name."""

from __future__ import annotations

import argparse
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Final

from serving.options import LOG_LEVELS, PROTECTED, ServerOptions
from serving.profile import PROFILES

_DEFAULTS: Final = ServerOptions()
_MAX_PORT: Final = 65535
_SHOWN: Final = " (default: %(default)s)"


def port(text: str) -> int:
    """A TCP port, 0 for a free one."""
    number = int(text)
    if not 0 <= number <= _MAX_PORT:
        raise argparse.ArgumentTypeError(f"{number} is no port: 0 (a free one) to {_MAX_PORT}")
    return number


def at_least_1(unit: str, text: str) -> int:
    """A count of `unit`."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"at least 1 {unit}")
    return count


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything about a server; `server_options` reads it."""

    def add(field: str, what: str, *, flag: str | None = None, **more: Any) -> None:
        name = f"--{flag or field.replace('_', '-')}"
        default = getattr(_DEFAULTS, field)
        parser.add_argument(name, dest=field, default=default, help=what, **more)

    address: dict[str, Any] = {"metavar": "ADDRESS"}
    seconds: dict[str, Any] = {"metavar": "S", "type": partial(at_least_1, "second")}
    file: dict[str, Any] = {"metavar": "FILE", "type": Path}
    add(
        "repository",
        "model repository made by `lprnet repository` (default: the shipped one)",
        metavar="FOLDER",
        type=Path,
    )
    add("profile", "engine" + _SHOWN, choices=("auto", *PROFILES))
    add("host", "address of gRPC (default: %(default)s, this machine only)", **address)
    for name, title in (
        ("grpc", "gRPC"),
        ("http", "HTTP"),
        ("metrics", "metrics"),
        ("health", "health"),
    ):
        what = f"{title} port, 0 for a free one" + _SHOWN
        add(f"{name}_port", what, metavar="PORT", type=port)
    add("http_host", "address of HTTP, for clients you trust only" + _SHOWN, **address)
    add("metrics_host", "address of the metrics" + _SHOWN, **address)
    add("health_host", "address of /healthz and /readyz" + _SHOWN, **address)
    add(
        "watchdog",
        "end when the server ends; no health port",
        flag="no-watchdog",
        action="store_false",
    )
    add("tls_cert", "PEM certificate chain: gRPC takes TLS only", **file)
    add("tls_key", "PEM private key of --tls-cert", **file)
    add(
        "tls_client_ca",
        "PEM authorities: clients must show a certificate of one of them (mutual TLS)",
        **file,
    )
    add(
        "trace_url",
        "send OpenTelemetry traces there, such as http://127.0.0.1:4318/v1/traces",
        metavar="URL",
    )
    one_in = partial(at_least_1, "request")
    add("trace_rate", "trace one request in N" + _SHOWN, metavar="N", type=one_in)
    parser.add_argument(
        "--open",
        dest="open_protocols",
        action="append",
        choices=PROTECTED,
        default=[],
        metavar="PROTOCOL",
        help="let every client use a protected protocol, may be repeated: " + ", ".join(PROTECTED),
    )
    least = "least severe lines of tritonserver to show"
    add("log_level", least + _SHOWN, choices=LOG_LEVELS)
    first = "seconds from the start to the first right answer (default: %(default)g)"
    add("ready_timeout_s", first, flag="ready-timeout", **seconds)
    last = "seconds for running requests when it ends" + _SHOWN
    add("exit_timeout_s", last, flag="exit-timeout", **seconds)
    add("tritonserver", "use this tritonserver", **file)


def server_options(args: argparse.Namespace) -> ServerOptions:
    """What `add_server_arguments` has read."""
    values = {field.name: getattr(args, field.name) for field in fields(ServerOptions)}
    values["open_protocols"] = frozenset(args.open_protocols)
    return ServerOptions(**values)
