"""TLS of the gRPC endpoint: the server's arguments, and the watchdog's own way in.

The watchdog reads the known plate through the same endpoint as every client. Where clients must
show a certificate it shows one that it made for itself: a throw-away authority of this start is
added to those that the server trusts, and its key never leaves this process.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import grpc  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from serving.errors import PreflightError
from serving.options import ServerOptions

_VALID_DAYS = 3650
"""Of the watchdog's own certificate, which ends with the process."""


@dataclass(frozen=True)
class ServerTls:
    """Checked files and the watchdog's own certificate.

    Attributes:
        cert, key: PEM files of the server.
        chain: content of `cert`.
        name: a name that the certificate carries.
        client_ca: PEM of the authorities for clients; None where clients need no certificate.
        own: PEM certificate and key that the watchdog shows; None without `client_ca`.
    """

    cert: Path
    key: Path
    chain: bytes
    name: str
    client_ca: bytes | None
    own: tuple[bytes, bytes] | None

    def arguments(self, runtime_folder: Path) -> list[str]:
        """For tritonserver; writes the bundle of client authorities into its private folder."""
        arguments = [
            "--grpc-use-ssl=true",
            f"--grpc-server-cert={self.cert}",
            f"--grpc-server-key={self.key}",
        ]
        if self.client_ca is not None and self.own is not None:
            bundle = runtime_folder / "client-authorities.pem"
            bundle.write_bytes(self.client_ca.rstrip() + b"\n" + self.own[0])
            arguments += ["--grpc-use-ssl-mutual=true", f"--grpc-root-cert={bundle}"]
        return arguments

    def credentials(self) -> grpc.ChannelCredentials:
        """Of the watchdog: it trusts the server's own certificate and shows its own."""
        cert, key = (None, None) if self.own is None else self.own
        return grpc.ssl_channel_credentials(self.chain, private_key=key, certificate_chain=cert)

    def channel_args(self) -> list[tuple[str, str]]:
        """The watchdog connects by address, the certificate carries a name."""
        return [("grpc.ssl_target_name_override", self.name)]


def read_tls(options: ServerOptions) -> ServerTls | None:
    """Check the certificate options; None without TLS.

    Raises:
        PreflightError: for files that are missing, unreadable, expired or do not fit.
    """
    if options.tls_cert is None:
        if options.tls_key is not None or options.tls_client_ca is not None:
            raise PreflightError("--tls-key and --tls-client-ca need --tls-cert")
        return None
    if options.http_host != ServerOptions.http_host:
        raise PreflightError("Triton's HTTP knows no TLS: beside --tls-cert leave --http-host out")
    if options.tls_key is None:
        raise PreflightError("--tls-cert needs --tls-key, the private key of that certificate")
    chain, key = _read(options.tls_cert), _read(options.tls_key)
    certificate = _certificate(options.tls_cert, chain)
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise PreflightError(f"{options.tls_key} is no unencrypted PEM private key") from error
    if _public(private.public_key()) != _public(certificate.public_key()):
        raise PreflightError(f"{options.tls_key} is not the key of {options.tls_cert}")
    client_ca = None
    if options.tls_client_ca is not None:
        client_ca = _read(options.tls_client_ca)
        _certificate(options.tls_client_ca, client_ca)
    return ServerTls(
        cert=options.tls_cert.resolve(),
        key=options.tls_key.resolve(),
        chain=chain,
        name=_name(options.tls_cert, certificate),
        client_ca=client_ca,
        own=None if client_ca is None else own_certificate(),
    )


def own_certificate() -> tuple[bytes, bytes]:
    """A self-signed certificate that is its own authority, and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lprnet watchdog")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PreflightError(f"cannot read {path}: {error.strerror}") from error


def _certificate(path: Path, pem: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificates(pem)[0]
    except ValueError as error:
        raise PreflightError(f"{path} is no PEM certificate") from error
    now = datetime.datetime.now(datetime.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise PreflightError(
            f"the certificate {path} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}: renew it"
        )
    return certificate


def _public(key: object) -> bytes:
    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _name(path: Path, certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    found = [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ]
    if not found:
        raise PreflightError(
            f"the certificate {path} names no host (subjectAltName): no client can verify it"
        )
    return found[0].replace("*.", "watchdog.", 1)
