"""The Python in which Triton's Python backend runs our models: its variables, its packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serving.errors import PreflightError
from serving.find import Installation

_QUESTION: Final = """
import importlib.metadata, importlib.util, json
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown" if importlib.util.find_spec(name) else None
names = "numpy", "openvino", "onnxruntime", "simplejpeg"
print(json.dumps({name: version(name) for name in names}
    | {"cv2": "yes" if importlib.util.find_spec("cv2") else None}))
"""


@dataclass(frozen=True)
class Packages:
    """Versions of the packages that the models can import; None where one is missing."""

    numpy: str | None
    openvino: str | None
    onnxruntime: str | None
    simplejpeg: str | None
    cv2: str | None


def server_environment(installation: Installation) -> dict[str, str]:
    """Environment of tritonserver and so of the models' processes."""
    environment = dict(os.environ)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # the repository may be read-only
    # Importing OpenVINO reports to Google Analytics unless it is run by continuous integration;
    # its other way out is a file in the user's home folder.
    environment["CI"] = "true"
    try:
        Path.home()
    except RuntimeError:  # a container's user of a number alone: OpenVINO does not load without
        environment["HOME"] = tempfile.gettempdir()
    environment.pop("PYTHONHOME", None)
    if installation.uses_our_python:
        # The stub finds its standard library and packages through the first python3 on PATH.
        environment["PATH"] = f"{Path(sys.prefix) / 'bin'}:{environment.get('PATH', '')}"
        library_folder = sysconfig.get_config_var("LIBDIR")
        if library_folder and (Path(library_folder) / libpython_name()).exists():
            rest = environment.get("LD_LIBRARY_PATH")
            environment["LD_LIBRARY_PATH"] = (
                f"{library_folder}:{rest}" if rest else str(library_folder)
            )
    return environment


def libpython_name() -> str:
    """File name of the shared library that the stub of this Python is linked with."""
    return f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"


def read_packages(environment: Mapping[str, str]) -> Packages:
    """Ask the python3 that the models will run in.

    It is asked in isolated mode, as the stub runs: without PYTHONPATH, without the user's own
    packages and without modules that lie in the working folder.

    Raises:
        PreflightError: when there is no working python3.
    """
    try:
        answer = subprocess.run(
            ["python3", "-I", "-c", _QUESTION],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        raise PreflightError(f"the python3 on PATH does not run: {reason}") from error
    except subprocess.TimeoutExpired as error:
        raise PreflightError("the python3 on PATH does not answer within 60 s") from error
    except OSError as error:
        raise PreflightError(f"there is no python3 on PATH: {error.strerror}") from error
    return Packages(**json.loads(answer.stdout))
