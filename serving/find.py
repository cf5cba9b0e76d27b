"""Finds a tritonserver: NVIDIA's container, PATH, or the one inside the PyPI wheel."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from serving.errors import PreflightError

CONTAINER_ROOT: Final = Path("/opt/tritonserver")
STUB: Final = "triton_python_backend_stub"
Origin = Literal["container", "path", "wheel"]


@dataclass(frozen=True)
class Installation:
    """A tritonserver and what lies around it.

    Attributes:
        binary: the program.
        backends: folder with one folder a backend.
        caches: folder of response caches.
        stub: Python stub to link in; None when the Python backend has its own beside it.
        origin: where it was found.
    """

    binary: Path
    backends: Path
    caches: Path
    stub: Path | None
    origin: Origin

    @property
    def uses_our_python(self) -> bool:
        """Whether the models run in the environment that runs this program."""
        return self.stub is not None

    def has_backend(self, name: str) -> bool:
        """Whether a backend of this name is installed."""
        return (self.backends / name).is_dir()


def find_server(binary: Path | None = None) -> Installation:
    """Locate tritonserver.

    Args:
        binary: take this one; None looks in NVIDIA's container, on PATH, then in the wheel.

    Raises:
        PreflightError: when there is none.
    """
    if binary is not None:
        if not binary.is_file():
            raise PreflightError(f"there is no tritonserver at {binary}")
        return _around(binary.resolve(), "path")
    in_container = CONTAINER_ROOT / "bin" / "tritonserver"
    if in_container.is_file():
        return _around(in_container, "container")
    on_path = shutil.which("tritonserver")
    if on_path is not None:
        return _around(Path(on_path).resolve(), "path")
    return _in_wheel()


def _around(binary: Path, origin: Origin) -> Installation:
    root = binary.parent.parent
    stub = _wheel_stub(root) if not (root / "backends" / "python" / STUB).exists() else None
    return Installation(binary, root / "backends", root / "caches", stub, origin)


def _wheel_stub(root: Path) -> Path | None:
    """The wheel keeps one stub a Python version apart from the backend; others have none."""
    stub = root / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}" / STUB
    return stub if stub.is_file() else None


def _in_wheel() -> Installation:
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise PreflightError(
            "no tritonserver found: run `make setup` (installs nvidia-pytriton from PyPI), or run "
            "inside NVIDIA's tritonserver container"
        )
    root = Path(spec.origin).parent / "tritonserver"
    binary = root / "bin" / "tritonserver"
    if not binary.is_file():
        raise PreflightError(
            "the installed nvidia-pytriton carries no tritonserver for this platform: wheels exist "
            "for Linux on x86_64 and aarch64"
        )
    found = _around(binary, "wheel")
    if found.stub is None:
        raise PreflightError(
            f"nvidia-pytriton has no Python stub for Python {sys.version_info[0]}."
            f"{sys.version_info[1]}: use Python 3.10 to 3.13"
        )
    return found
