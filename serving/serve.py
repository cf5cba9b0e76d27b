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

from serving.errors import StartError
from serving.serve_arguments import add_server_arguments, server_options
from serving.server import TritonServer
from serving.signals import ending_signals
from serving.watchdog import Watchdog

POLL_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `lprnet serve`."""
    add_server_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until told to end.

    Returns:
        0 when it was told to end.

    Raises:
        ServingError: when it cannot start, or ended by itself.
    """
    options = server_options(args)
    signals = ending_signals()
    told = Told()
    for number in signals:
        signal.signal(number, told)
    watchdog = Watchdog(options)
    server = watchdog.server
    service = watchdog if options.watchdog else server
    try:
        service.start()
        told.check()
        print(summary(server, watchdog.health_url if options.watchdog else None), flush=True)
        if options.watchdog:
            while not watchdog.wait(POLL_S):
                told.check()
            raise StartError("the watchdog ended by itself: please report the error above")
        while server.wait(POLL_S) is None:
            told.check()
        raise StartError("tritonserver ended by itself; run it with --log-level info")
    except KeyboardInterrupt:
        print("stopping", file=sys.stderr)
    finally:
        for number in signals:  # a second Ctrl-C must not leave a half-stopped server
            signal.signal(number, signal.SIG_IGN)
        service.stop()
    return 0


class Told:
    """Signal handler: raises KeyboardInterrupt, and remembers it.

    Python drops what a handler raises while some object is being finalised.
    """

    def __init__(self) -> None:
        self._came = False

    def __call__(self, *_: object) -> None:
        self._came = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has come."""
        if self._came:
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
