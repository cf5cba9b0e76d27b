"""Find the engine's best instance count and batch size with triton-model-analyzer.

Prepares what its local mode needs: a copy of the model repository with the CPU configs in their
default places, tritonserver's flags, and perf_analyzer; then runs it on load_tests/
model_analyzer.yaml. It lives in an environment of its own, which `make analyze` makes.

Examples:
  make analyze
  python -m load_tests.analyzer --model-analyzer out/analyzer/venv/bin/model-analyzer
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from load_tests.main import run_main
from load_tests.perf_analyzer import environment as perf_environment
from load_tests.perf_analyzer import fetch
from load_tests.pictures import ROOT
from lprnet.errors import LprnetError
from serving.find import STUB, find_server
from serving.options import DEFAULT_REPOSITORY
from serving.preflight import free_port
from serving.python_environment import server_environment

CONFIG: Final = Path(__file__).with_name("model_analyzer.yaml")
PROFILE_CONFIG: Final = Path("configs") / "cpu.pbtxt"


def prepare_repository(source: Path, target: Path) -> None:
    """Copy a repository; a model's CPU config becomes its config.pbtxt."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    for config in target.glob(f"*/{PROFILE_CONFIG}"):
        config.replace(config.parents[1] / "config.pbtxt")
        shutil.rmtree(config.parent)


def prepare_backends(backends: Path, stub: Path | None, target: Path) -> Path:
    """The Python backend with the stub of this Python beside it."""
    if stub is None:
        return backends
    shutil.rmtree(target, ignore_errors=True)
    python = target / "python"
    python.mkdir(parents=True)
    for file in (backends / "python").iterdir():
        if file.name != STUB:
            (python / file.name).symlink_to(file)
    (python / STUB).symlink_to(stub)
    return target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the program."""
    folder = ROOT / "out" / "analyzer"
    add = parser.add_argument
    program = folder / "venv" / "bin" / "model-analyzer"
    add("--model-analyzer", type=Path, default=program, help="the program (default: %(default)s)")
    add("--repository", type=Path, default=DEFAULT_REPOSITORY, help="model repository")
    add("--config", type=Path, default=CONFIG, help="what to search (default: %(default)s)")
    add("--out", type=Path, default=folder, help="folder for the results")


def run(args: argparse.Namespace) -> int:
    """Prepare and run; model-analyzer's exit code."""
    if not args.model_analyzer.is_file():
        raise LprnetError(f"there is no {args.model_analyzer}: `make analyze` installs it")
    installation = find_server(None)
    out = args.out.resolve()
    repository, backends = out / "repository", out / "backends"
    prepare_repository(args.repository, repository)
    binary = fetch()
    environment = server_environment(installation)
    paths = [environment.get("LD_LIBRARY_PATH", ""), perf_environment(binary)["LD_LIBRARY_PATH"]]
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, paths))
    ports = [free_port("127.0.0.1", [])]
    for _ in range(2):
        ports.append(free_port("127.0.0.1", ports))
    command = [str(args.model_analyzer), "profile", "--config-file", str(args.config)]
    command += ["--model-repository", str(repository), "--triton-launch-mode", "local"]
    command += ["--triton-server-path", str(installation.binary)]
    command += ["--perf-analyzer-path", str(binary)]
    command += ["--output-model-repository-path", str(out / "variants")]
    command += ["--override-output-model-repository", "--export-path", str(out / "results")]
    command += ["--checkpoint-directory", str(out / "checkpoints")]
    command += ["--triton-grpc-endpoint", f"127.0.0.1:{ports[0]}"]
    command += ["--triton-http-endpoint", f"127.0.0.1:{ports[1]}"]
    command += ["--triton-metrics-url", f"http://127.0.0.1:{ports[2]}/metrics"]
    flags = {
        "backend-directory": prepare_backends(installation.backends, installation.stub, backends),
        "grpc-port": ports[0],
        "http-port": ports[1],
        "metrics-port": ports[2],
        "allow-gpu-metrics": "false",
        "rate-limit": "execution_count",  # as `lprnet serve` starts it on the CPU
    }
    config = out / "model_analyzer.yaml"
    lines = [args.config.read_text(encoding="utf-8"), "triton_server_flags:"]
    lines += [f"  {name}: {value}" for name, value in flags.items()]
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command[command.index(str(args.config))] = str(config)
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    run_main("python -m load_tests.analyzer", sys.modules[__name__])
