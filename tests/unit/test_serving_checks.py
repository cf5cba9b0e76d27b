"""Finding a server, preflight, the choice of a profile, the command line and the log."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lprnet import contract
from lprnet.engine_record import EngineRecord, record_path
from lprnet.plate_spec import DEFAULT_SPEC
from serving import preflight
from serving.addresses import resolve_ports
from serving.errors import PreflightError
from serving.find import STUB, Installation, find_server
from serving.launch import KEY_HEADER, server_command
from serving.options import PROTECTED, ROOT, ServerOptions
from serving.plan_check import BACKEND_LIBRARY, GpuMachine, read_machine, version_text
from serving.profile import Profile, choose_profile, gpu_present
from serving.python_environment import (
    Packages,
    libpython_name,
    read_packages,
    server_environment,
)
from serving.server_log import ServerLog

WITH_OPENVINO = Packages(
    numpy="1.26.4", openvino="2026.4.1", onnxruntime=None, simplejpeg="1.9.0", cv2="yes"
)
WITHOUT_RUNTIME = dataclasses.replace(WITH_OPENVINO, openvino=None)


def installation(folder: Path, *backends: str, origin: str = "container") -> Installation:
    for name in backends:
        (folder / "backends" / name).mkdir(parents=True)
    return Installation(
        binary=folder / "bin" / "tritonserver",
        backends=folder / "backends",
        caches=folder / "caches",
        stub=None,
        origin=origin,  # type: ignore[arg-type]
    )


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


def test_packages_of_the_models_python() -> None:
    packages = read_packages(server_environment(find_server()))
    assert packages.numpy is not None
    assert packages.cv2 is not None
    assert packages.simplejpeg is not None


@pytest.mark.parametrize("host", ["8.8.8.8", "nohost.invalid", "::ffff:8.8.8.8"])
def test_a_free_port_where_nobody_can_listen(host: str) -> None:
    with pytest.raises(PreflightError, match="cannot listen on"):
        preflight.free_port(host)


@pytest.mark.parametrize("host", ["::", "::1"])
def test_tritons_lack_of_ipv6_is_told_before_the_start(host: str) -> None:
    """Seen to fail: tritonserver itself says that the port is taken."""
    with pytest.raises(PreflightError, match="give an IPv4 address"):
        resolve_ports(ServerOptions(host=host))


# --- profile -------------------------------------------------------------------------------


PLAN = b"a plan"
RECORD = EngineRecord(
    flavour="tensorrt",
    tensorrt_version="10.13.3.9",
    gpu_name="NVIDIA L4",
    compute_capability="8.9",
    precision="fp16",
    onnx_sha256="a" * 64,
    plan_sha256=hashlib.sha256(PLAN).hexdigest(),
    plate_spec_digest=DEFAULT_SPEC.digest,
    min_batch=1,
    opt_batch=16,
    max_batch=256,
    inputs=("image UINT8 [N, 3, 48, 96]",),
    outputs=("char_ids INT32 [N, 48]", "char_probs FP32 [N, 48]"),
    built_at="2026-01-01T00:00:00+00:00",
)
MACHINE = GpuMachine("10.13.3", "NVIDIA L4", "8.9")


def machine(_: Installation) -> GpuMachine:
    return MACHINE


def repository_with_plan(folder: Path, record: EngineRecord = RECORD) -> Path:
    engine = folder / contract.ENGINE_MODEL / "1"
    engine.mkdir(parents=True)
    (engine / contract.MODEL_RECORD_FILE).write_text(json.dumps({"onnx_sha256": "a" * 64}))
    (engine / contract.SPEC_FILE).write_text(DEFAULT_SPEC.to_json())
    (engine / "model.plan").write_bytes(PLAN)
    record_path(engine / "model.plan").write_text(record.to_json())
    config = Path(contract.ENGINE_MODEL) / "config.pbtxt"
    shutil.copy(ROOT / "model_repository" / config, folder / config)
    return folder


ALL = ("python", "tensorrt", "openvino", "onnxruntime")


@pytest.mark.parametrize(
    ("backends", "packages", "gpu", "expected"),
    [
        (ALL, WITH_OPENVINO, True, "tensorrt"),
        (ALL, WITH_OPENVINO, False, "cpu"),  # a GPU is needed for a plan
        (("python",), WITH_OPENVINO, True, "cpu"),  # the wheel has no TensorRT backend
        (ALL, WITHOUT_RUNTIME, False, "openvino"),  # stock container
        (("python", "onnxruntime"), WITHOUT_RUNTIME, False, "onnxruntime"),
    ],
)
def test_auto_takes_the_best_that_can_run(
    tmp_path: Path, backends: tuple[str, ...], packages: Packages, gpu: bool, expected: str
) -> None:
    found = installation(tmp_path / "triton", *backends)
    repository = repository_with_plan(tmp_path / "repository")
    chosen = choose_profile(found, packages, repository, "auto", gpu=gpu, machine=machine)
    assert chosen.name == expected


def test_nothing_can_run(tmp_path: Path) -> None:
    found = installation(tmp_path / "triton", "python")
    with pytest.raises(PreflightError, match="neither openvino nor onnxruntime"):
        choose_profile(found, WITHOUT_RUNTIME, tmp_path, "auto", gpu=False)


@pytest.mark.parametrize("requested", ["auto", "tensorrt"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"onnx_sha256": "b" * 64}, "ONNX digest bbbbbbbbbbbb"),
        ({"tensorrt_version": "10.14.1.48"}, r"TensorRT 10\.14\.1\.48, the server has 10\.13\.3"),
        ({"gpu_name": "NVIDIA A10"}, "GPU NVIDIA A10, here it is NVIDIA L4"),
        ({"compute_capability": "8.6"}, r"compute capability 8\.6"),
        ({"gpu_name": ""}, "on a machine without a GPU"),
        ({"flavour": "tensorrt-rtx"}, "Triton does not load"),
        ({"plate_spec_digest": "c" * 64}, "plate spec digest cccccccccccc"),
        ({"plan_sha256": "d" * 64}, r"is not the plan of model\.plan\.json"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_with_the_cure(
    tmp_path: Path, change: dict[str, str], reason: str, requested: str
) -> None:
    found = installation(tmp_path / "triton", *ALL)
    record = dataclasses.replace(RECORD, **change)  # type: ignore[arg-type]
    repository = repository_with_plan(tmp_path / "repository", record)
    with pytest.raises(PreflightError, match=reason) as caught:
        choose_profile(found, WITH_OPENVINO, repository, requested, gpu=True, machine=machine)
    assert "build it again with `lprnet engine" in str(caught.value)
    assert "--profile cpu" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plan_without_a_record_is_refused(tmp_path: Path) -> None:
    found = installation(tmp_path / "triton", *ALL)
    repository = repository_with_plan(tmp_path / "repository")
    record_path(repository / contract.ENGINE_MODEL / "1" / "model.plan").unlink()
    with pytest.raises(PreflightError, match=r"cannot read model\.plan\.json"):
        choose_profile(found, WITH_OPENVINO, repository, "auto", gpu=True, machine=machine)


def test_a_plan_of_the_int8_model_needs_that_model(tmp_path: Path) -> None:
    found = installation(tmp_path / "triton", *ALL)
    record = dataclasses.replace(RECORD, precision="int8", onnx_sha256="e" * 64)
    repository = repository_with_plan(tmp_path / "repository", record)
    with pytest.raises(PreflightError, match=r"model_int8\.json does not name one"):
        choose_profile(found, WITH_OPENVINO, repository, "auto", gpu=True, machine=machine)
    int8 = repository / contract.ENGINE_MODEL / "1" / "model_int8.json"
    int8.write_text(json.dumps({"onnx_sha256": "e" * 64}))
    chosen = choose_profile(found, WITH_OPENVINO, repository, "auto", gpu=True, machine=machine)
    assert chosen.name == "tensorrt"


def test_the_server_s_tensorrt_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert version_text(101303) == "10.13.3"
    assert version_text(110200) == "11.2.0"
    assert version_text(8601) == "8.6.1"
    found = installation(tmp_path, "tensorrt")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PreflightError, match="names no GPU"):
        read_machine(found)
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA L4, 8.9'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    library = found.backends / "tensorrt" / BACKEND_LIBRARY
    with pytest.raises(PreflightError, match=f"cannot read {BACKEND_LIBRARY}"):
        read_machine(found)
    library.write_bytes(b"\x7fELF libnvinfer.so.4711 \0")
    with pytest.raises(PreflightError, match=r"libnvinfer\.so\.4711 .* does not load"):
        read_machine(found)


def test_a_requested_profile_says_what_is_missing(tmp_path: Path) -> None:
    found = installation(tmp_path / "triton", "python")
    with pytest.raises(PreflightError, match="profile tensorrt cannot run here: no NVIDIA GPU"):
        choose_profile(found, WITH_OPENVINO, tmp_path, "tensorrt", gpu=False)
    with pytest.raises(PreflightError, match="profile openvino cannot run here"):
        choose_profile(found, WITH_OPENVINO, tmp_path, "openvino", gpu=False)


def test_gpu_devices(tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()
    assert not gpu_present(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert gpu_present(tmp_path)


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


def test_opened_protocols_and_the_tensorrt_profile(tmp_path: Path) -> None:
    options = ServerOptions(open_protocols=frozenset(PROTECTED))
    arguments = command(tmp_path, "tensorrt", options)
    assert not any("restricted" in argument for argument in arguments)
    assert not any(argument.startswith("--model-config-name") for argument in arguments)


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
