"""The examples in the clients' documentation, run as they are written."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import subprocess
import textwrap
from pathlib import Path

import cv2
import pytest
from onnx_samples import paint

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Files that the examples name."""
    for name in ("plate", "a", "b"):
        picture = cv2.imencode(".png", paint(name.upper()).transpose(1, 2, 0))[1]
        (tmp_path / f"{name}.jpg").write_bytes(picture.tobytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def example_of(module, url):
    """The indented code of a module's docstring, pointed at the test's server."""
    text = importlib.import_module(module).__doc__
    block = re.search(r"Example:\n((?:(?: {4}.*)?\n)+)", text)
    assert block, f"{module} has no example"
    code = textwrap.dedent(block[1])
    assert "127.0.0.1:8001" in code
    return code.replace("127.0.0.1:8001", url)


@pytest.mark.parametrize(
    ("module", "words"), [("clients", "A\nB\n"), ("clients.client", "PLATE\n")]
)
def test_blocking_examples(sample_server, pictures, capsys, module, words):
    names = {"Path": Path, **vars(importlib.import_module("clients"))}
    exec(example_of(module, sample_server.grpc_url), names)
    assert capsys.readouterr().out == words


def test_asyncio_example(sample_server, pictures):
    code = example_of("clients.aio", sample_server.grpc_url)
    names = {
        "asyncio": asyncio,
        "pictures": [(pictures / f"{name}.jpg").read_bytes() for name in ("a", "b")],
        **vars(importlib.import_module("clients")),
    }
    exec(f"async def example():\n{textwrap.indent(code, '    ')}    return readings", names)
    assert [reading.plate for reading in asyncio.run(names["example"]())] == ["A", "B"]


def test_curl(sample_server, pictures):
    script = ROOT / "clients" / "read_with_curl.sh"
    result = subprocess.run(
        [script, "plate.jpg", sample_server.http_url], capture_output=True, text=True, check=True
    )
    outputs = {o["name"]: o["data"] for o in json.loads(result.stdout)["outputs"]}
    assert outputs["plate"] == ["PLATE"]
    assert 0.5 < outputs["confidence"][0] <= 1
