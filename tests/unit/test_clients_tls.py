"""TLS and mutual TLS against a gRPC server with certificates made for the test."""

from __future__ import annotations

import asyncio
import subprocess

import grpc
import pytest
from fake_triton import FakeTriton, picture, serve, text_of

from clients import (
    AsyncPlateClient,
    ClientOptions,
    ConfigurationError,
    PlateClient,
    ServerUnavailable,
    Tls,
)
from clients.errors import ServerUnreachable


def openssl(*arguments, cwd):
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def pems(tmp_path_factory):
    """ca, server, client and a second authority `other`, each NAME.pem and NAME.key."""
    folder = tmp_path_factory.mktemp("pems")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for name in ("ca", "other"):
        openssl(
            *("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem"),
            *("-subj", f"/CN={name}", "-days", "2"),
            cwd=folder,
        )
    (folder / "names").write_text("subjectAltName=DNS:plates.example")
    for name in ("server", "client"):
        openssl(
            *("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"),
            cwd=folder,
        )
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-out", f"{name}.pem", "-days", "2", "-extfile", "names"),
            cwd=folder,
        )
    return folder


@pytest.fixture(params=[False, True], ids=["tls", "mutual"])
def secured(request, pems):
    credentials = grpc.ssl_server_credentials(
        [((pems / "server.key").read_bytes(), (pems / "server.pem").read_bytes())],
        root_certificates=(pems / "ca.pem").read_bytes(),
        require_client_auth=request.param,
    )
    with serve(FakeTriton(), credentials=credentials) as fake:
        yield fake


def tls(pems, **changes):
    """Options with the right certificates."""
    values = {
        "ca_file": pems / "ca.pem",
        "cert_file": pems / "client.pem",
        "key_file": pems / "client.key",
        "server_name": "plates.example",
    }
    return ClientOptions(connect_timeout_s=2, tls=Tls(**{**values, **changes}))


def test_right_certificates(secured, pems):
    with PlateClient(secured.url, tls(pems)) as client:
        assert client.read_image(picture(0)).plate == text_of(picture(0))

    async def read():
        async with AsyncPlateClient(secured.url, tls(pems)) as client:
            return await client.read_image(picture(1))

    assert asyncio.run(read()).plate == text_of(picture(1))


def test_wrong_authority_is_refused(secured, pems):
    with (
        PlateClient(secured.url, tls(pems, ca_file=pems / "other.pem")) as client,
        pytest.raises(ServerUnavailable),
    ):
        client.read_image(picture(0))
    assert secured.requests == []


def test_wrong_name_is_refused(secured, pems):
    with (
        PlateClient(secured.url, tls(pems, server_name=None)) as client,
        pytest.raises(ServerUnavailable),
    ):
        client.read_image(picture(0))


def test_without_certificates(secured, pems, request):
    anonymous = tls(pems, cert_file=None, key_file=None)
    if "mutual" in request.node.name:
        with (
            PlateClient(secured.url, anonymous) as client,
            pytest.raises(ServerUnavailable),
        ):
            client.read_image(picture(0))
    else:
        with PlateClient(secured.url, anonymous) as client:
            assert client.read_image(picture(0)).plate == text_of(picture(0))


def test_plain_connection_is_refused(secured):
    with (
        PlateClient(secured.url, ClientOptions(connect_timeout_s=1)) as client,
        pytest.raises(ServerUnavailable),
    ):
        client.read_image(picture(0))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ca_file": "garbage"}, "garbage"),
        ({"ca_file": "ca.key"}, "ca.key"),
        ({"cert_file": "garbage"}, "garbage"),
        ({"key_file": "other.key"}, "other.key"),
        ({"key_file": "locked.key"}, "locked.key"),
    ],
)
@pytest.mark.parametrize("kind", [PlateClient, AsyncPlateClient])
def test_certificates_that_are_none_are_named_before_anything_is_asked(pems, kind, changes, named):
    """Seen to fail: retries against a server that "is not available"."""
    (pems / "garbage").write_text("no certificate")
    openssl(
        *("ec", "-in", "client.key", "-aes128", "-passout", "pass:x", "-out", "locked.key"),
        cwd=pems,
    )
    files = {name: str(pems / file) for name, file in changes.items()}  # a str is a path, too
    with pytest.raises(ConfigurationError, match=named):
        kind("localhost:1", tls(pems, **files))


def test_a_certificate_that_is_not_trusted_is_no_absent_server(secured, pems):
    options = tls(pems, ca_file=pems / "other.pem")
    with PlateClient(secured.url, options) as client, pytest.raises(ServerUnavailable) as caught:
        client.read_image(picture(1))
    assert not isinstance(caught.value, ServerUnreachable)


@pytest.mark.parametrize(
    "comment", ["# F\u0151tan\u00fas\u00edtv\u00e1ny\n".encode(), b"# \xe9\n", b"\xef\xbb\xbf"]
)
def test_bundles_with_comments_in_any_encoding(secured, pems, comment):
    """Seen to fail with a TypeError of Python's ssl."""
    bundle = pems / "bundle.pem"
    bundle.write_bytes(comment + (pems / "other.pem").read_bytes() + (pems / "ca.pem").read_bytes())
    with PlateClient(secured.url, tls(pems, ca_file=bundle)) as client:
        assert client.read_image(picture(1)).plate == text_of(picture(1))


def test_der_is_no_pem(pems):
    openssl("x509", "-in", "ca.pem", "-outform", "DER", "-out", "ca.der", cwd=pems)
    with pytest.raises(ConfigurationError, match=r"ca\.der holds no PEM certificate"):
        PlateClient("localhost:1", tls(pems, ca_file=pems / "ca.der"))
