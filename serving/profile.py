"""Which engine to serve: TensorRT where there is a GPU and a plan, else the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lprnet import contract
from lprnet.errors import LprnetError
from serving.errors import PreflightError
from serving.find import Installation
from serving.plan_check import PLAN, GpuMachine, check_plan, read_machine
from serving.python_environment import Packages

PROFILES: Final = ("tensorrt", "cpu", "openvino", "onnxruntime")
"""In order of preference; each but the first has a configs/PROFILE.pbtxt."""


@dataclass(frozen=True)
class Profile:
    """A choice.

    Attributes:
        name: one of `PROFILES`.
    """

    name: str

    @property
    def config_name(self) -> str | None:
        """Value of --model-config-name; None takes config.pbtxt."""
        return None if self.name == "tensorrt" else self.name


def gpu_present(devices: Path = Path("/dev")) -> bool:
    """Whether an NVIDIA GPU is visible, natively or under WSL."""
    return any(devices.glob("nvidia[0-9]*")) or (devices / "dxg").exists()


def choose_profile(
    installation: Installation,
    packages: Packages,
    repository: Path,
    requested: str,
    *,
    gpu: bool,
    machine: Callable[[Installation], GpuMachine] = read_machine,
) -> Profile:
    """The requested profile, or for "auto" the first that can run here.

    Args:
        machine: tells what a plan must have been built for; asked only where one is served.

    Raises:
        PreflightError: when the requested one, or none, can run; or when the choice falls on a
            plan that was built for something else. It would be slow to serve the CPU engine then
            without a word.
    """
    obstacles = {
        "tensorrt": _tensorrt_obstacle(installation, repository, gpu=gpu),
        "cpu": _cpu_obstacle(packages),
        "openvino": _backend_obstacle(installation, "openvino"),
        "onnxruntime": _backend_obstacle(installation, "onnxruntime"),
    }
    if requested == "auto":
        for name in PROFILES:
            if obstacles[name] is None:
                return _checked(name, installation, repository, machine)
        raise PreflightError(f"no engine can run here: {obstacles['cpu']}")
    if requested not in obstacles:
        raise PreflightError(f"there is no profile {requested!r}: choose {', '.join(PROFILES)}")
    obstacle = obstacles[requested]
    if obstacle is not None:
        raise PreflightError(f"profile {requested} cannot run here: {obstacle}")
    return _checked(requested, installation, repository, machine)


def _checked(
    name: str,
    installation: Installation,
    repository: Path,
    machine: Callable[[Installation], GpuMachine],
) -> Profile:
    if name == "tensorrt":
        try:
            check_plan(repository / contract.ENGINE_MODEL / "1", machine(installation))
        except LprnetError as error:
            raise PreflightError(
                f"{contract.ENGINE_MODEL}/1/{PLAN} cannot be served: {error}; "
                "or serve without a GPU: --profile cpu"
            ) from error
    return Profile(name)


def _tensorrt_obstacle(installation: Installation, repository: Path, *, gpu: bool) -> str | None:
    folder = repository / contract.ENGINE_MODEL / "1"
    if not gpu:
        return "no NVIDIA GPU is visible"
    if not installation.has_backend("tensorrt"):
        return "this tritonserver has no TensorRT backend: use NVIDIA's tritonserver container"
    if not (folder / PLAN).is_file():
        return f"{contract.ENGINE_MODEL}/1/{PLAN} is missing: build it with `lprnet engine`"
    return None


def _cpu_obstacle(packages: Packages) -> str | None:
    if packages.openvino is None and packages.onnxruntime is None:
        return "neither openvino nor onnxruntime is installed for Triton's Python: pip install one"
    return None


def _backend_obstacle(installation: Installation, backend: str) -> str | None:
    if not installation.has_backend(backend):
        return f"this tritonserver has no {backend} backend: use NVIDIA's tritonserver container"
    return None
