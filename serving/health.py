"""Ask a running server for a plate it must know: exit code 0 when it reads it right, else 1.

A reading through both ensembles is the only proof: Triton calls a model ready whose process is
dead. With --watchdog the watchdog of `lprnet serve` is asked instead, which needs neither the
model repository nor certificates.

Examples:
  lprnet health
  lprnet health --url 10.0.0.7:8001 --timeout 5
  lprnet health --watchdog http://127.0.0.1:8003
"""

from __future__ import annotations

import argparse
import urllib.error
import urllib.request
from pathlib import Path

import tritonclient.grpc as grpcclient

from serving.errors import ProbeError
from serving.options import DEFAULT_REPOSITORY, ServerOptions
from serving.probe import ask, load_probe

_DEFAULTS = ServerOptions()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `lprnet health`."""
    parser.add_argument(
        "--url",
        default=f"{_DEFAULTS.host}:{_DEFAULTS.grpc_port}",
        metavar="HOST:PORT",
        help="gRPC address of the server (default: %(default)s)",
    )
    parser.add_argument(
        "--repository",
        type=Path,
        default=DEFAULT_REPOSITORY,
        metavar="FOLDER",
        help="the repository that it serves: its record holds the right answer",
    )
    parser.add_argument(
        "--watchdog", metavar="URL", help="ask this watchdog, such as http://127.0.0.1:8003"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=5.0,
        metavar="S",
        help="seconds for each answer (default: %(default)g)",
    )


def run(args: argparse.Namespace) -> int:
    """Say in one line how the server is; 0 when it reads right."""
    if args.watchdog is not None:
        return _ask_watchdog(args.watchdog.rstrip("/") + "/readyz", args.timeout)
    probe = load_probe(args.repository)
    with grpcclient.InferenceServerClient(args.url) as client:
        try:
            seconds = ask(client, probe, args.timeout)
        except ProbeError as error:
            print(f"not healthy: {args.url}: {error}")
            return 1
    print(f"healthy: {args.url} reads {probe.plate!r}, both ensembles in {seconds * 1000:.0f} ms")
    return 0


def _ask_watchdog(url: str, timeout_s: float) -> int:
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            body = answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        print(f"not healthy: {error.read().decode().strip()}")
        return 1
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        print(f"not healthy: no watchdog answers at {url}: {reason}")
        return 1
    print(f"healthy: {body}")
    return 0
