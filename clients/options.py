"""How a client connects: address, certificates, deadlines, retries."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc  # type: ignore[import-untyped]

from clients.errors import ConfigurationError
from clients.retry import RetryPolicy

DEFAULT_PORT: Final = 8001
DEFAULT_URL: Final = f"127.0.0.1:{DEFAULT_PORT}"
URL_VARIABLE: Final = "LPRNET_URL"
_HEADER_NAME: Final = re.compile(r"[0-9a-z_.-]+(?<!-bin)")
_HEADER_VALUE: Final = re.compile(r"[ -~]*")
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
MAX_TIMEOUT_S: Final = 1e8
"""Three years; gRPC takes a deadline beyond its clock for one that has passed."""


@dataclass(frozen=True)
class Tls:
    """Certificates, PEM files.

    Attributes:
        ca_file: authorities that may sign the server's certificate; None: those of the system.
        cert_file, key_file: the client's own certificate and key, for mutual TLS; both or none.
        server_name: the name that the server's certificate carries, where it is not the address.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise ConfigurationError("mutual TLS needs both a certificate and its key file")

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            ConfigurationError: for a file that cannot be read or holds no such certificate or key.
        """
        self._check()
        return grpc.ssl_channel_credentials(
            root_certificates=_read_pem(self.ca_file),
            private_key=_read_pem(self.key_file),
            certificate_chain=_read_pem(self.cert_file),
        )

    def _check(self) -> None:
        """gRPC itself tells only that no connection comes about."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        pem = _read_pem(self.ca_file)
        if pem is not None:
            try:
                # Comments may be in any encoding.
                context.load_verify_locations(cadata=pem.decode("ascii", "ignore"))
            except (ssl.SSLError, ValueError, TypeError) as error:
                raise ConfigurationError(
                    f"{self.ca_file} holds no PEM certificate ({error})"
                ) from error
        if self.cert_file is None or self.key_file is None:
            return
        for file in (self.cert_file, self.key_file):
            _read_pem(file)
        try:
            context.load_cert_chain(self.cert_file, self.key_file, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigurationError(
                f"{self.cert_file} and {self.key_file} are not a PEM certificate and its "
                f"unencrypted key ({error})"
            ) from error


@dataclass(frozen=True)
class ClientOptions:
    """Everything about a client but its server's address.

    Attributes:
        timeout_s: deadline of one batch: its requests with and without bad pictures, and their
            retries. What a single awaited call waits for its turn is not counted.
        connect_timeout_s: how long the first call waits for a server to answer at all.
        retry: how calls are repeated.
        tls: certificates, or None for a plain connection.
        headers: metadata sent with every call, lower-case names, e.g. a key for protected
            protocols.
        in_flight: batches on their way at a time when there are several.
        shared_memory: hand pictures over in /dev/shm instead of through the connection; the
            server must run on the same machine, share its /dev/shm and open the protocol to
            this client.
        cuda_device: number of the GPU through whose memory pictures are handed over, on the same
            terms; None: none. No GPU was at hand to run or measure it.
        priority: 1 goes before the requests that wait in the server's queues, for the few small
            ones that cannot wait behind a flood; 2 is everybody's; 0 leaves it to the server.
    """

    timeout_s: float = 30.0
    connect_timeout_s: float = 3.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    tls: Tls | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    in_flight: int = 2
    shared_memory: bool = False
    cuda_device: int | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        if not all(0 < s <= MAX_TIMEOUT_S for s in (self.timeout_s, self.connect_timeout_s)):
            raise ConfigurationError(f"deadlines are above 0 and at most {MAX_TIMEOUT_S:g} seconds")
        if self.in_flight < 1:
            raise ConfigurationError("in_flight must be at least 1")
        if self.shared_memory and self.cuda_device is not None:
            raise ConfigurationError("choose one of shared_memory and cuda_device")
        if self.cuda_device is not None and self.cuda_device < 0:
            raise ConfigurationError("cuda_device is the number of a GPU, 0 or more")
        for name, value in self.headers.items():
            texts = isinstance(name, str) and isinstance(value, str)
            if not (texts and _HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
                raise ConfigurationError(
                    f"header {name!r}: names are lower-case letters, digits and -_. (not ending in "
                    "-bin), values printable ASCII"
                )
        if self.priority not in (0, 1, 2):
            raise ConfigurationError("priority is 1 (first), 2 (everybody's) or 0 (the server's)")

    def channel_args(self, url: str) -> list[tuple[str, int | str]]:
        """gRPC channel arguments for a server at HOST:PORT.

        tritonclient's keep-alive options stay off: servers, Triton too, close the connection of
        a client that pings more often than every five minutes, and the deadline that each call
        has here finds a dead peer sooner. A lost connection is tried again every second at
        least, so that a restarted server is found at once (gRPC would back off to two minutes).
        gRPC's own retries are off: `clients.retry` says why, and each call would pay for them.
        """
        args: list[tuple[str, int | str]] = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 1000),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        if url.rpartition(":")[0] in _LOOPBACK:
            args.append(("grpc.enable_http_proxy", 0))  # of http_proxy in the environment
        if self.tls is not None and self.tls.server_name is not None:
            args.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return args


def resolve_url(url: str | None) -> str:
    """HOST:PORT to use: the one given, else LPRNET_URL, else the loopback default.

    Raises:
        ConfigurationError: for a malformed address.
    """
    if url is None:
        url = os.environ.get(URL_VARIABLE) or DEFAULT_URL
    if not isinstance(url, str):
        raise ConfigurationError(f"{url!r} is no address: give HOST:PORT, such as {DEFAULT_URL}")
    address = url.strip().removesuffix("/")
    if "://" in address:
        scheme, _, address = address.partition("://")
        if scheme != "grpc":
            raise ConfigurationError(
                f"{url!r}: the client speaks gRPC; give HOST:PORT, such as {DEFAULT_URL}"
            )
    if address.count(":") == 0:
        address = f"{address}:{DEFAULT_PORT}"
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if (
        not host
        or (":" in host and not bracketed)
        or "/" in address
        or not (address.isascii() and address.isprintable() and " " not in address)
        or not port.isdecimal()
        or not 0 < int(port) < 65536
    ):
        raise ConfigurationError(
            f"{url!r} is no address: give HOST:PORT, such as {DEFAULT_URL} or [::1]:{DEFAULT_PORT}"
        )
    return address


def _no_password() -> str:
    """Else OpenSSL would ask at the terminal."""
    raise ValueError("encrypted")


def _read_pem(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
