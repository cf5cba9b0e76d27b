"""`lprnet serve`'s command line: every field of the options, and what deploy/ asks of it."""

from __future__ import annotations

import argparse
import re
from dataclasses import fields
from pathlib import Path

import pytest

from serving import serve
from serving.options import ROOT, ServerOptions
from serving.serve_arguments import server_options


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    serve.add_arguments(made)
    return made


def test_without_arguments_the_options_are_the_defaults(parser: argparse.ArgumentParser) -> None:
    assert server_options(parser.parse_args([])) == ServerOptions()


def test_every_option_arrives(parser: argparse.ArgumentParser) -> None:
    given = {
        "repository": ("--repository=r", Path("r")),
        "profile": ("--profile=cpu", "cpu"),
        "host": ("--host=::1", "::1"),
        "grpc_port": ("--grpc-port=1", 1),
        "http_port": ("--http-port=2", 2),
        "metrics_port": ("--metrics-port=3", 3),
        "http_host": ("--http-host=w", "w"),
        "metrics_host": ("--metrics-host=m", "m"),
        "open_protocols": ("--open=trace --open=logging", frozenset({"trace", "logging"})),
        "log_level": ("--log-level=error", "error"),
        "ready_timeout_s": ("--ready-timeout=4", 4),
        "exit_timeout_s": ("--exit-timeout=5", 5),
        "watchdog": ("--no-watchdog", False),
        "health_host": ("--health-host=h", "h"),
        "health_port": ("--health-port=0", 0),
        "tls_cert": ("--tls-cert=c", Path("c")),
        "tls_key": ("--tls-key=k", Path("k")),
        "tls_client_ca": ("--tls-client-ca=a", Path("a")),
        "trace_url": ("--trace-url=u", "u"),
        "trace_rate": ("--trace-rate=6", 6),
        "tritonserver": ("--tritonserver=t", Path("t")),
    }
    assert set(given) == {field.name for field in fields(ServerOptions)}
    words = [word for text, _ in given.values() for word in text.split()]
    options = server_options(parser.parse_args(words))
    assert {name: getattr(options, name) for name in given} == {
        name: value for name, (_, value) in given.items()
    }


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("--grpc-port=65536", "65536 is no port"),
        ("--health-port=-1", "-1 is no port"),
        ("--exit-timeout=0", "at least 1 second"),
        ("--trace-rate=0", "at least 1 request"),
        ("--open=everything", "invalid choice"),
    ],
)
def test_what_cannot_be_is_refused(
    parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str], word: str, reason: str
) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args([word])
    assert reason in capsys.readouterr().err


def test_the_kubernetes_example_speaks_this_command_line(parser: argparse.ArgumentParser) -> None:
    """Its arguments are known and its ports are ours."""
    text = (ROOT / "deploy" / "kubernetes" / "lprnet.yaml").read_text(encoding="utf-8")
    options = server_options(parser.parse_args(re.findall(r"^ +- (--\S+)$", text, re.MULTILINE)))
    assert options.tls_client_ca is not None
    ports = dict(re.findall(r"\{name: (\w+), containerPort: (\d+)\}", text))
    assert ports == {
        name: str(getattr(options, f"{name}_port")) for name in ("grpc", "metrics", "health")
    }
