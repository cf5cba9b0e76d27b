"""Ask a running server for a plate it must know: exit code 0 when it reads it right, else 1.

A reading through both ensembles is the only proof: Triton calls a model ready whose process is
dead. With --watchdog the watchdog of `lprnet serve` is asked instead, which needs neither the
model repository nor certificates.

Examples:
  lprnet health
  lprnet health --url 10.0.0.7:8001 --timeout 5
  lprnet health --url plates.example:8001 --ca-file ca.pem
  lprnet health --watchdog http://127.0.0.1:8003
"""

from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import Final

import tritonclient.grpc as grpcclient

from clients.arguments import add_connection_arguments, seconds, tls_from
from clients.options import ClientOptions, resolve_url
from serving.errors import ProbeError
from serving.options import DEFAULT_REPOSITORY
from serving.probe import ask, load_probe

_READY: Final = "/readyz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `lprnet health`."""
    add_connection_arguments(parser)
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
        type=seconds,
        default=5.0,
        metavar="S",
        help="seconds for each answer (default: %(default)g)",
    )


def run(args: argparse.Namespace) -> int:
    """Say in one line how the server is; 0 when it reads right."""
    if args.watchdog is not None:
        address = args.watchdog.rstrip("/").removesuffix(_READY)
        return _ask_watchdog(address + _READY, args.timeout)
    url, options = resolve_url(args.url), ClientOptions(tls=tls_from(args))
    probe = load_probe(args.repository)
    with grpcclient.InferenceServerClient(
        url,
        creds=None if options.tls is None else options.tls.credentials(),
        channel_args=options.channel_args(url),
    ) as client:
        try:
            taken_s = ask(client, probe, args.timeout)
        except ProbeError as error:
            print(f"not healthy: {url}: {error}")
            return 1
    print(f"healthy: {url} reads {probe.plate!r}, both ensembles in {taken_s * 1000:.0f} ms")
    return 0


def _ask_watchdog(url: str, timeout_s: float) -> int:
    try:
        good, body = _get(url, timeout_s)
        ready = json.loads(body)["ready"] and good
    # HTTPException and UnicodeDecodeError: a port that speaks something else, such as gRPC.
    except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError, HTTPException):
        print(f"not healthy: what answers at {url} is no watchdog of `lprnet serve`")
        return 1
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        print(f"not healthy: no watchdog answers at {url}: {reason}")
        return 1
    print(f"{'healthy' if ready else 'not healthy'}: {body}")
    return 0 if ready else 1


def _get(url: str, timeout_s: float) -> tuple[bool, str]:
    """Whether the status is 200, and the body, which tells why where it is 503.

    Raises:
        OSError, ValueError: where nobody answers.
        HTTPException: for an answer that is no HTTP.
    """
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return True, answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        return False, error.read().decode().strip()
    except InvalidURL as error:  # an HTTPException, though nobody was asked
        raise ValueError(str(error)) from error
