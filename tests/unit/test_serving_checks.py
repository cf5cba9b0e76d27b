"""Finding a server, preflight, the command line and the log."""

from __future__ import annotations

import dataclasses
import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from serving_installation import WITH_OPENVINO, installation

from serving import preflight
from serving.addresses import resolve_ports
from serving.errors import PreflightError
from serving.find import STUB, find_server
from serving.launch import KEY_HEADER, server_command
from serving.options import PROTECTED, ROOT, ServerOptions
from serving.profile import Profile
from serving.python_environment import (
    libpython_name,
    read_packages,
    server_environment,
)
from serving.server_log import ServerLog


def test_serving_needs_no_torch() -> None:
    code = "import serving.serve, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# --- finding -------------------------------------------------------------------------------


def test_a_server_is_found_with_the_stub_of_this_python() -> None:
    found = find_server()
    assert os.access(found.binary, os.X_OK)
    assert found.has_backend("python")
    assert found.stub is None or found.stub.name == STUB


def test_a_named_server_that_is_not_there() -> None:
    with pytest.raises(PreflightError, match="no tritonserver at /nowhere"):
        find_server(Path("/nowhere"))


# --- preflight -----------------------------------------------------------------------------


def test_a_taken_port_says_which_and_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PreflightError, match=rf"gRPC port {port}.*--grpc-port"):
            preflight.check_port("gRPC", "127.0.0.1", port, "--grpc-port")
    preflight.check_port("gRPC", "127.0.0.1", port, "--grpc-port")


def test_an_address_of_another_machine() -> None:
    with pytest.raises(PreflightError, match=r"cannot listen on 192\.0\.2\.1"):
        preflight.check_port("HTTP", "192.0.2.1", 8000, "--http-port")


def test_free_ports_differ() -> None:
    first = preflight.free_port("127.0.0.1")
    assert preflight.free_port("127.0.0.1", [first]) != first


def test_a_repository_that_is_not_assembled_names_the_verb(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="no model repository"):
        preflight.check_repository(tmp_path / "none")
    with pytest.raises(PreflightError, match="run `lprnet repository`"):
        preflight.check_repository(tmp_path)


def test_a_missing_libpython_names_the_debian_package(tmp_path: Path) -> None:
    stub = tmp_path / STUB
    stub.write_text(
        "#!/bin/sh\n"
        f'echo "$0: error while loading shared libraries: {libpython_name()}: cannot open '
        'shared object file: No such file or directory" >&2\nexit 127\n'
    )
    stub.chmod(0o755)
    with pytest.raises(PreflightError, match=r"apt-get install libpython3\.\d+"):
        preflight.check_stub(stub, os.environ)


def test_the_real_stub_starts() -> None:
    found = find_server()
    if found.stub is not None:
        preflight.check_stub(found.stub, server_environment(found))


@pytest.mark.parametrize(
    ("version", "origin", "refused"),
    [("1.26.4", "wheel", False), ("2.1.0", "wheel", True), ("2.1.0", "container", False)],
)
def test_numpy_2_is_refused_where_it_empties_outputs(
    tmp_path: Path, version: str, origin: str, refused: bool
) -> None:
    packages = dataclasses.replace(WITH_OPENVINO, numpy=version)
    found = installation(tmp_path, origin=origin)
    if not refused:
        preflight.check_packages(found, packages)
        return
    with pytest.raises(PreflightError, match="numpy<2"):
        preflight.check_packages(found, packages)


@pytest.mark.parametrize(("package", "called"), [("cv2", "OpenCV"), ("simplejpeg", "simplejpeg")])
def test_a_missing_decoder_is_named(tmp_path: Path, package: str, called: str) -> None:
    with pytest.raises(PreflightError, match=f"^{called} not installed .* pip install"):
        preflight.check_packages(
            installation(tmp_path), dataclasses.replace(WITH_OPENVINO, **{package: None})
        )


def test_packages_of_the_models_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies where the user stands, or on PYTHONPATH, is not what the models import."""
    (tmp_path / "json.py").write_text("raise RuntimeError('not the standard library')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    packages = read_packages(server_environment(find_server()))
    assert packages.numpy is not None
    assert packages.cv2 is not None
    assert packages.simplejpeg is not None


def test_a_python_that_does_not_run_is_said_in_one_line(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho first >&2\necho 'no module named encodings' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(PreflightError, match=r"does not run: no module named encodings$"):
        read_packages({"PATH": f"{tmp_path}:/bin"})
    with pytest.raises(PreflightError, match="there is no python3 on PATH"):
        read_packages({"PATH": str(tmp_path / "nowhere")})


@pytest.mark.parametrize("host", ["8.8.8.8", "nohost.invalid", "::ffff:8.8.8.8"])
def test_a_free_port_where_nobody_can_listen(host: str) -> None:
    with pytest.raises(PreflightError, match="cannot listen on"):
        preflight.free_port(host)


@pytest.mark.parametrize("host", ["::", "::1"])
def test_tritons_lack_of_ipv6_is_told_before_the_start(host: str) -> None:
    """Seen to fail: tritonserver itself says that the port is taken."""
    with pytest.raises(PreflightError, match="give an IPv4 address"):
        resolve_ports(ServerOptions(host=host))


# --- command line --------------------------------------------------------------------------


def command(tmp_path: Path, profile: str, options: ServerOptions) -> list[str]:
    return server_command(
        installation(tmp_path),
        Profile(profile),
        options,
        backends=tmp_path,
        shm_prefix="lprnet-x-",
        key="secret",
        gpu=False,
    )


def test_it_listens_on_this_machine_only_and_protects_control(tmp_path: Path) -> None:
    arguments = command(tmp_path, "cpu", ServerOptions())
    for kind in ("http", "grpc", "metrics"):
        assert f"--{kind}-address=127.0.0.1" in arguments
    closed = ",".join(PROTECTED)
    assert f"--grpc-restricted-protocol={closed}:{KEY_HEADER}=secret" in arguments
    assert f"--http-restricted-api={closed}:{KEY_HEADER}=secret" in arguments
    assert not any(argument.startswith("--cache-config") for argument in arguments)
    assert "--model-config-name=cpu" in arguments
    assert "--rate-limit=execution_count" in arguments


def test_opened_protocols_and_the_tensorrt_profile(tmp_path: Path) -> None:
    options = ServerOptions(open_protocols=frozenset(PROTECTED))
    arguments = command(tmp_path, "tensorrt", options)
    assert not any("restricted" in argument for argument in arguments)
    assert not any(argument.startswith("--model-config-name") for argument in arguments)
    assert not any(argument.startswith("--rate-limit") for argument in arguments)


def test_ports() -> None:
    with pytest.raises(PreflightError, match=r"--http-port 49999 is another port of this server"):
        resolve_ports(ServerOptions(grpc_port=49999, http_port=49999))
    resolved = resolve_ports(ServerOptions(grpc_port=0, http_port=0, metrics_port=0, health_port=0))
    assert len({resolved.grpc_port, resolved.http_port, resolved.metrics_port, 0}) == 4


# --- log -----------------------------------------------------------------------------------

LOG = """\
2026-11-22T19:00:00Z I 7 model.py:41] "engine: OpenVINO 1, 2 threads, latency, small fp32 0.1.0"
2026-11-22T19:00:00Z E 7 ensemble_scheduler.cc:1] "CUDA driver version is insufficient for CUDA"
2026-11-22T19:00:01Z W 7 x.cc:1] "mind this"
and its second line
2026-11-22T19:00:02Z I 7 x.cc:1] "not this"
2026-11-22T19:00:02Z E 7 model_lifecycle.cc:642] "failed to load 'ctc_decoder' version 1: Internal: the spec"
"""  # noqa: E501


def test_the_log_is_filtered_and_read(capsys: pytest.CaptureFixture[str]) -> None:
    log = ServerLog(io.StringIO(LOG), "warning", gpu=False)
    log._thread.join()
    passed = capsys.readouterr().err
    assert "mind this" in passed
    assert "and its second line" in passed
    assert "not this" not in passed
    assert "CUDA" not in passed
    assert log.engine() == "OpenVINO 1, 2 threads, latency, small fp32 0.1.0"
    assert log.load_failure() == "ctc_decoder: the spec"
