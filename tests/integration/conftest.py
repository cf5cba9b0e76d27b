"""Real servers on free ports, one for all tests of a session where they can share it.

`server` serves the shipped weights. `sample_server` serves a tiny graph that reads what
`onnx_samples.paint` has painted, so that a test can demand any text of it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tritonclient.grpc as grpcclient

from lprnet_cli import VERBS, load_verb
from serving import ServerOptions, TritonServer

sys.path.append(str(Path(__file__).resolve().parents[1]))
from left_behind import processes_with, segments, wait_until
from onnx_samples import write_onnx

READY_TIMEOUT_S = 300.0  # a machine that trains at the same time is slow


@pytest.fixture(scope="session")
def assemble() -> Callable[..., Path]:
    """`assemble(onnx, out)` -> the repository folder; onnx None takes the shipped weights."""
    module = load_verb(VERBS["repository"])

    def assembled(onnx: Path | None, out: Path) -> Path:
        folder: Path = module.assemble(onnx, out).folder
        return folder

    return assembled


def options_for(repository: Path, **changes: object) -> ServerOptions:
    """Options of a test's server: free ports, patience."""
    values: dict[str, object] = {
        "repository": repository,
        "profile": "cpu",
        "grpc_port": 0,
        "http_port": 0,
        "metrics_port": 0,
        "health_port": 0,
        "ready_timeout_s": READY_TIMEOUT_S,
        **changes,
    }
    return ServerOptions(**values)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def server(
    assemble: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """A running server with the shipped weights: `server.grpc_url`, `server.http_url`.

    LPRNET_ONNX names other weights to test.
    """
    other = os.environ.get("LPRNET_ONNX")
    onnx = None if other is None else Path(other)
    repository = assemble(onnx, tmp_path_factory.mktemp("shipped") / "repository")
    with TritonServer(options_for(repository)) as running:
        yield running


@pytest.fixture(scope="session")
def sample_repository(
    assemble: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An assembled repository around the painted-text graph. Do not change it."""
    folder = tmp_path_factory.mktemp("sample")
    return assemble(write_onnx(folder / "sample.onnx"), folder / "repository")


@pytest.fixture(scope="session")
def sample_server(sample_repository: Path) -> Iterator[TritonServer]:
    """A running server with the painted-text graph."""
    with TritonServer(options_for(sample_repository)) as running:
        yield running


@pytest.fixture
def client(sample_server: TritonServer) -> Iterator[grpcclient.InferenceServerClient]:
    """Triton's own gRPC client on `sample_server`."""
    with grpcclient.InferenceServerClient(sample_server.grpc_url) as connected:
        yield connected


@pytest.fixture
def repository(sample_repository: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage; its path is the mark of this test's processes."""
    return Path(shutil.copytree(sample_repository, tmp_path / "repository"))


@pytest.fixture
def no_trace(repository: Path) -> Iterator[None]:
    """After the test: no process of its server, no shared memory of its."""
    before = segments()
    yield
    wait_until(lambda: not processes_with(str(repository)))
    left = processes_with(str(repository))
    for pid in left:  # of a test that failed: the next ones want the machine
        os.kill(pid, signal.SIGKILL)
    assert not left
    assert wait_until(lambda: not segments() - before), segments() - before
