"""Everything that would make tritonserver hang, fail late or answer wrongly, checked before."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from lprnet import contract
from serving.errors import PreflightError
from serving.find import Installation
from serving.python_environment import Packages, libpython_name

SHARED_MEMORY: Final = Path("/dev/shm")
MIN_SHARED_MEMORY_BYTES: Final = 32 * 1024 * 1024
"""Six Python processes start with 1 MiB each and grow with the pictures of a batch."""

PYTHON_MODELS: Final = (
    contract.ENGINE_MODEL,
    contract.DECODER_MODEL,
    contract.IMAGE_DECODER_MODEL,
)
"""Models that Triton runs in Python processes; the engine only on the CPU."""


def check_repository(repository: Path) -> None:
    """The folder is there, complete and assembled.

    Raises:
        PreflightError: otherwise, as do all checks here.
    """
    if not repository.is_dir():
        raise PreflightError(f"there is no model repository at {repository}")
    models = (*PYTHON_MODELS, contract.CROP_ENSEMBLE, contract.IMAGE_ENSEMBLE)
    needed = [f"{model}/config.pbtxt" for model in models]
    needed += [f"{model}/1/{contract.SPEC_FILE}" for model in PYTHON_MODELS]
    needed += [f"{model}/1/lprnet/__init__.py" for model in PYTHON_MODELS]
    needed += [f"{contract.ENGINE_MODEL}/1/{contract.MODEL_RECORD_FILE}"]
    missing = [name for name in needed if not (repository / name).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise PreflightError(
            f"the model repository {repository} is not assembled ({missing[0]} is missing{more}): "
            "run `lprnet repository`"
        )


def check_port(what: str, host: str, port: int, option: str) -> None:
    """The port can be bound. Triton itself would notice only after loading every model."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise PreflightError(f"{what} address {host!r} is no address: {error.strerror}") from error
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As tritonserver does: connections of a server that ended are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PreflightError(
                    f"{what} port {port} on {host} is taken by another program: end it, or choose "
                    f"another port with {option} (0 picks a free one)"
                ) from error
            raise PreflightError(
                f"{what} cannot listen on {host} port {port}: {error.strerror}; choose others "
                f"with --host and {option}"
            ) from error


def free_port(host: str, taken: Collection[int] = ()) -> int:
    """A port that nobody listens on at the moment and that is not in `taken`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, 0))
            except OSError as error:  # no name, or no address of this machine
                raise PreflightError(f"cannot listen on {host!r}: {error.strerror}") from error
            port: int = probe.getsockname()[1]
        if port not in taken:
            return port


def check_stub(stub: Path, environment: Mapping[str, str]) -> None:
    """The Python stub starts. With a library missing the server would hang instead of failing."""
    try:
        ran = subprocess.run(
            [str(stub)], env=environment, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PreflightError(f"Triton's Python stub does not run: {error}") from error
    complaint = "error while loading shared libraries: "
    if complaint not in ran.stderr:
        return  # it complains of missing arguments: it runs
    library = ran.stderr.split(complaint)[1].split(":")[0]
    if library == libpython_name():
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise PreflightError(
            f"Triton's Python backend needs {library}: install it "
            f"(apt-get install libpython{version}), or use a Python that was built with "
            "--enable-shared (uv and conda have one)"
        )
    raise PreflightError(f"Triton's Python stub needs the library {library}: install it")


def check_packages(installation: Installation, packages: Packages) -> None:
    """The models can import what they need, in a version that works."""
    needed = {"numpy": packages.numpy, "OpenCV": packages.cv2, "simplejpeg": packages.simplejpeg}
    missing = [name for name, version in needed.items() if version is None]
    if packages.numpy is None or missing:
        raise PreflightError(
            f"{' and '.join(missing)} not installed beside Triton's Python: "
            "pip install 'numpy<2' opencv-python-headless simplejpeg"
        )
    if installation.origin == "wheel" and int(packages.numpy.split(".")[0]) > 1:
        raise PreflightError(
            f"numpy {packages.numpy} makes this Triton's Python backend answer with empty "
            "outputs: pip install 'numpy<2'"
        )


def check_shared_memory() -> None:
    """/dev/shm, through which tritonserver and the Python models talk, has room."""
    try:
        free_bytes = shutil.disk_usage(SHARED_MEMORY).free
    except OSError as error:
        raise PreflightError(f"{SHARED_MEMORY} cannot be used: {error.strerror}") from error
    if not os.access(SHARED_MEMORY, os.W_OK):
        raise PreflightError(f"{SHARED_MEMORY} is not writable for this user")
    if free_bytes < MIN_SHARED_MEMORY_BYTES:
        raise PreflightError(
            f"{SHARED_MEMORY} has {free_bytes // 1024**2} MiB free, the server needs "
            f"{MIN_SHARED_MEMORY_BYTES // 1024**2}: start the container with --shm-size=256m"
        )
