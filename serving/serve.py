"""Start tritonserver with the model repository, in the foreground.

It listens on this machine only unless --host says otherwise, picks TensorRT where a GPU, the
backend and a plan are there and the CPU engine elsewhere, and says that it is ready only after a
known plate was read right through both ensembles. A watchdog goes on reading that plate every
second, replaces what died, hangs or reads wrongly, and serves /healthz, /readyz and /metrics on
the health port. Ctrl-C or SIGTERM ends it: running requests are answered first.

Examples:
  lprnet serve
  lprnet serve --host 0.0.0.0 --grpc-port 9001
  lprnet serve --profile cpu --log-level info
  lprnet serve --host 0.0.0.0 --tls-cert server.pem --tls-key server.key --tls-client-ca ca.pem
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from serving.errors import StartError
from serving.options import DEFAULT_REPOSITORY, LOG_LEVELS, PROTECTED, ServerOptions
from serving.profile import PROFILES
from serving.server import TritonServer
from serving.watchdog import Watchdog

_DEFAULTS = ServerOptions()
POLL_S = 60.0
_TITLES = {"grpc": "gRPC", "http": "HTTP"}


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is no port: 0 (a free one) to 65535")
    return port


def _seconds(text: str) -> int:
    seconds = int(text)
    if seconds < 1:
        raise argparse.ArgumentTypeError("at least 1 second")
    return seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `lprnet serve`."""
    add = parser.add_argument
    add(
        "--repository",
        type=Path,
        default=DEFAULT_REPOSITORY,
        metavar="FOLDER",
        help="model repository made by `lprnet repository` (default: the shipped one)",
    )
    add(
        "--profile",
        choices=("auto", *PROFILES),
        default=_DEFAULTS.profile,
        help="engine (default: %(default)s)",
    )
    add(
        "--host",
        default=_DEFAULTS.host,
        metavar="ADDRESS",
        help="address of gRPC and HTTP (default: %(default)s, this machine only)",
    )
    for name in ("grpc", "http", "metrics", "health"):
        add(
            f"--{name}-port",
            type=_port,
            default=getattr(_DEFAULTS, f"{name}_port"),
            metavar="PORT",
            help=f"{_TITLES.get(name, name)} port, 0 for a free one (default: %(default)s)",
        )
    add(
        "--metrics-host",
        default=_DEFAULTS.metrics_host,
        metavar="ADDRESS",
        help="address of the metrics (default: %(default)s)",
    )
    add(
        "--health-host",
        default=_DEFAULTS.health_host,
        metavar="ADDRESS",
        help="address of /healthz and /readyz (default: %(default)s)",
    )
    add("--no-watchdog", action="store_true", help="end when the server ends; no health port")
    add("--tls-cert", type=Path, metavar="FILE", help="PEM certificate chain: gRPC takes TLS only")
    add("--tls-key", type=Path, metavar="FILE", help="PEM private key of --tls-cert")
    add(
        "--tls-client-ca",
        type=Path,
        metavar="FILE",
        help="PEM authorities: clients must show a certificate of one of them (mutual TLS)",
    )
    add(
        "--trace-url",
        metavar="URL",
        help="send OpenTelemetry traces there, such as http://127.0.0.1:4318/v1/traces",
    )
    add(
        "--trace-rate",
        type=_seconds,
        default=_DEFAULTS.trace_rate,
        metavar="N",
        help="trace one request in N (default: %(default)s)",
    )
    add(
        "--open",
        action="append",
        choices=PROTECTED,
        default=[],
        metavar="PROTOCOL",
        help="let every client use a protected protocol, may be repeated: " + ", ".join(PROTECTED),
    )
    add(
        "--log-level",
        choices=LOG_LEVELS,
        default=_DEFAULTS.log_level,
        help="least severe lines of tritonserver to show (default: %(default)s)",
    )
    add(
        "--ready-timeout",
        type=_seconds,
        default=int(_DEFAULTS.ready_timeout_s),
        metavar="S",
        help="seconds from the start to the first right answer (default: %(default)s)",
    )
    add(
        "--exit-timeout",
        type=_seconds,
        default=_DEFAULTS.exit_timeout_s,
        metavar="S",
        help="seconds for running requests when it ends (default: %(default)s)",
    )
    add("--tritonserver", type=Path, metavar="FILE", help="use this tritonserver")


def run(args: argparse.Namespace) -> int:
    """Serve until told to end.

    Returns:
        0 when it was told to end.

    Raises:
        ServingError: when it cannot start, or ended by itself.
    """
    options = ServerOptions(
        repository=args.repository,
        profile=args.profile,
        host=args.host,
        grpc_port=args.grpc_port,
        http_port=args.http_port,
        metrics_port=args.metrics_port,
        metrics_host=args.metrics_host,
        open_protocols=frozenset(args.open),
        log_level=args.log_level,
        ready_timeout_s=args.ready_timeout,
        exit_timeout_s=args.exit_timeout,
        watchdog=not args.no_watchdog,
        health_host=args.health_host,
        health_port=args.health_port,
        tls_cert=args.tls_cert,
        tls_key=args.tls_key,
        tls_client_ca=args.tls_client_ca,
        trace_url=args.trace_url,
        trace_rate=args.trace_rate,
        tritonserver=args.tritonserver,
    )
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        signal.signal(number, _interrupt)
    watchdog = Watchdog(options)
    server = watchdog.server
    service = watchdog if options.watchdog else server
    try:
        service.start()
        print(summary(server, watchdog.health_url if options.watchdog else None), flush=True)
        if options.watchdog:
            while not watchdog.wait(POLL_S):
                pass
            raise StartError("the watchdog ended by itself: please report the error above")
        while server.wait(POLL_S) is None:
            pass
        raise StartError("tritonserver ended by itself; run it with --log-level info")
    except KeyboardInterrupt:
        print("stopping", file=sys.stderr)
    finally:
        for number in signals:  # a second Ctrl-C must not leave a half-stopped server
            signal.signal(number, signal.SIG_IGN)
        service.stop()
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def summary(server: TritonServer, health_url: str | None) -> str:
    """What a person wants to know of a server that has just started."""
    rows = {
        "server": f"{server.installation.binary} ({server.installation.origin})",
        "profile": server.profile.name,
        "engine": server.engine,
        "gRPC": server.grpc_url,
        "HTTP": server.http_url,
        "metrics": server.metrics_url,
        "health": "no watchdog" if health_url is None else f"{health_url}/readyz",
        "ready": f"after {server.start_s:.1f} s; a known plate was read right through both "
        f"ensembles in {server.probe_s * 1000:.0f} ms",
    }
    return "\n".join(f"{name:<9}{value}" for name, value in rows.items()) + "\nCtrl-C ends it."
