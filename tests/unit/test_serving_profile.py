"""The choice of a profile: which plan, backend and packages can serve here."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from serving_installation import WITH_OPENVINO, WITHOUT_RUNTIME, installation
from test_engine_record import PLAN
from test_engine_record import RECORD as ANY_RECORD

from lprnet import contract
from lprnet.engine_record import EngineRecord, record_path
from lprnet.plate_spec import DEFAULT_SPEC
from serving.errors import PreflightError
from serving.find import Installation
from serving.options import ROOT
from serving.plan_check import BACKEND_LIBRARY, GpuMachine, read_machine, version_text
from serving.profile import choose_profile, gpu_present
from serving.python_environment import Packages

RECORD = dataclasses.replace(ANY_RECORD, plate_spec_digest=DEFAULT_SPEC.digest)
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
