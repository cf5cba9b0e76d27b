"""Options that every program with a server shares, and the client that follows from them."""

from __future__ import annotations

import argparse
from pathlib import Path

from clients.client import PlateClient
from clients.options import DEFAULT_URL, MAX_TIMEOUT_S, URL_VARIABLE, ClientOptions, Tls

_DEFAULTS = ClientOptions()


def add_connection_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Address and certificates; returns their group."""
    group = parser.add_argument_group("server")
    add = group.add_argument
    add(
        "--url",
        metavar="HOST:PORT",
        help=f"gRPC address (default: ${URL_VARIABLE}, else {DEFAULT_URL})",
    )
    add("--tls", action="store_true", help="encrypted connection")
    add("--ca-file", type=Path, metavar="PEM", help="who signs the server's certificate")
    add("--cert-file", type=Path, metavar="PEM", help="own certificate, for mutual TLS")
    add("--key-file", type=Path, metavar="PEM", help="its private key")
    add("--server-name", metavar="NAME", help="name in the server's certificate")
    return group


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """Address, certificates, deadlines, ways and order of requests."""
    add = add_connection_arguments(parser).add_argument
    add(
        "--timeout",
        type=seconds,
        default=_DEFAULTS.timeout_s,
        metavar="S",
        help="seconds for one batch, retries included (default: %(default)g)",
    )
    add(
        "--in-flight",
        type=whole,
        default=4,
        metavar="N",
        help="batches on their way at a time (default: %(default)s)",
    )
    add(
        "--shared-memory",
        action="store_true",
        help="hand pictures over in shared memory; the server must run on this machine and be "
        "started with `lprnet serve --open shared-memory`",
    )
    add(
        "--cuda-shared-memory",
        type=int,
        metavar="GPU",
        help="the same through the memory of this GPU (0, 1, ...)",
    )
    add(
        "--priority",
        type=int,
        choices=(0, 1, 2),
        default=_DEFAULTS.priority,
        help="1 goes before the requests that wait; 0 leaves it to the server (default)",
    )


def tls_from(args: argparse.Namespace) -> Tls | None:
    """The certificates that the options name, which imply --tls; None: a plain connection.

    Raises:
        ConfigurationError: for a certificate without its key.
    """
    names = (args.ca_file, args.cert_file, args.key_file, args.server_name)
    encrypted = args.tls or any(name is not None for name in names)
    return Tls(*names) if encrypted else None


def client_from(args: argparse.Namespace) -> PlateClient:
    """The client that the options ask for.

    Raises:
        ConfigurationError: for an address or files that cannot be used.
    """
    options = ClientOptions(
        timeout_s=args.timeout,
        in_flight=args.in_flight,
        shared_memory=args.shared_memory,
        cuda_device=args.cuda_shared_memory,
        priority=args.priority,
        tls=tls_from(args),
    )
    return PlateClient(args.url, options)


def seconds(text: str) -> float:
    """argparse type: a time above 0."""
    value = float(text)
    if not 0 < value <= MAX_TIMEOUT_S:
        raise argparse.ArgumentTypeError(
            f"{text} is not above 0 and at most {MAX_TIMEOUT_S:g} seconds"
        )
    return value


def whole(text: str) -> int:
    """argparse type: a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def fraction(text: str) -> float:
    """argparse type: 0..1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in 0..1")
    return value
