"""tritonserver's command line, its private folder, and the guard process that runs it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serving import guard
from serving.find import STUB, Installation
from serving.options import PROTECTED, ServerOptions
from serving.profile import Profile
from serving.tls import ServerTls

KEY_HEADER: Final = "lprnet-key"
"""Name under which the server's key opens the protected protocols."""


@dataclass(frozen=True)
class Launched:
    """A running guard and what belongs to its server.

    Attributes:
        process: the guard; its standard error carries the server's log.
        pid: of tritonserver.
        shm_prefix: of the server's segments in /dev/shm.
        key: opens the protected protocols.
    """

    process: subprocess.Popen[str]
    pid: int
    shm_prefix: str
    key: str


def launch(
    installation: Installation,
    profile: Profile,
    options: ServerOptions,
    environment: Mapping[str, str],
    *,
    gpu: bool,
    tls: ServerTls | None = None,
) -> Launched:
    """Start tritonserver under a guard. All ports of `options` must be real ones.

    The caller ends it with `stop`; should the caller die, the guard does.
    """
    runtime_folder = Path(tempfile.mkdtemp(prefix="lprnet-", dir=_runtime_parent()))
    shm_prefix = f"{guard.SHM_MARK}{secrets.token_hex(6)}-"
    key = secrets.token_hex(16)
    command = server_command(
        installation,
        profile,
        options,
        backends=_backend_folder(installation, runtime_folder),
        shm_prefix=shm_prefix,
        key=key,
        gpu=gpu,
    )
    if tls is not None:
        command += tls.arguments(runtime_folder)
    settings = {
        "command": command,
        "exit_timeout_s": options.exit_timeout_s,
        "shm_prefix": shm_prefix,
        "runtime_folder": str(runtime_folder),
    }
    # The guard's path says whose it is; its settings, the key among them, are no argument.
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(guard.__file__))],
        env=dict(environment),
        # Triton's Python stub looks for modules in its working folder first: a `json.py` where
        # the user stands must not become the models'.
        cwd=runtime_folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C in the terminal is ours to answer, not the guard's
    )
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdin.write(json.dumps(settings) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    return Launched(process, int(line) if line.strip() else 0, shm_prefix, key)


def begin_stop(launched: Launched) -> None:
    """Order the guard to end the server: running requests are answered first."""
    assert launched.process.stdin is not None
    launched.process.stdin.close()


def stop(launched: Launched, timeout_s: float) -> int:
    """Wait for the guard after `begin_stop`; returns the server's exit code."""
    try:
        return launched.process.wait(timeout_s)
    except subprocess.TimeoutExpired:  # the kernel then kills the server, see guard.py
        launched.process.kill()
        code = launched.process.wait()
        guard.remove_segments(launched.shm_prefix)
        return code


def server_command(
    installation: Installation,
    profile: Profile,
    options: ServerOptions,
    *,
    backends: Path,
    shm_prefix: str,
    key: str,
    gpu: bool,
) -> list[str]:
    """Arguments of tritonserver."""
    command = [
        str(installation.binary),
        f"--model-repository={options.repository.resolve()}",
        f"--backend-directory={backends}",
        f"--cache-directory={installation.caches}",
        # Explicit: a model whose process died is unloaded and loaded again in half a second.
        "--model-control-mode=explicit",
        "--load-model=*",
        # The files are complete; otherwise each Python model starts a second process to ask.
        "--disable-auto-complete-config",
        f"--http-address={options.http_host}",
        f"--http-port={options.http_port}",
        f"--grpc-address={options.host}",
        f"--grpc-port={options.grpc_port}",
        f"--metrics-address={options.metrics_host}",
        f"--metrics-port={options.metrics_port}",
        f"--allow-gpu-metrics={str(gpu).lower()}",
        f"--exit-timeout-secs={options.exit_timeout_s}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        "--log-format=ISO8601",
        f"--log-verbose={int(options.log_level == 'verbose')}",
    ]
    if profile.config_name is not None:
        command.append(f"--model-config-name={profile.config_name}")
    if profile.name == "cpu":
        # By the priorities in the configs: one process with warm caches answers what comes alone.
        command.append("--rate-limit=execution_count")
    closed = ",".join(name for name in PROTECTED if name not in options.open_protocols)
    if options.trace_url is not None:
        command += [
            "--trace-config=mode=opentelemetry",
            f"--trace-config=opentelemetry,url={options.trace_url}",
            "--trace-config=opentelemetry,resource=service.name=lprnet",
            f"--trace-config=rate={options.trace_rate}",
            "--trace-config=level=TIMESTAMPS",
        ]
    if closed:
        command.append(f"--grpc-restricted-protocol={closed}:{KEY_HEADER}={key}")
        command.append(f"--http-restricted-api={closed}:{KEY_HEADER}={key}")
    return command


def _runtime_parent() -> str | None:
    """The user's runtime folder where there is one, else the folder for temporary files."""
    folder = os.environ.get("XDG_RUNTIME_DIR")
    return folder if folder and os.access(folder, os.W_OK) else None


def _backend_folder(installation: Installation, runtime_folder: Path) -> Path:
    """Backends with the Python stub in its place, without writing into site-packages."""
    if installation.stub is None:
        return installation.backends
    folder = runtime_folder / "backends"
    folder.mkdir()
    for backend in installation.backends.iterdir():
        if backend.name != "python":
            (folder / backend.name).symlink_to(backend)
    python = folder / "python"
    python.mkdir()
    for file in (installation.backends / "python").iterdir():
        if file.is_file() and file.name != STUB:
            (python / file.name).symlink_to(file)
    (python / STUB).symlink_to(installation.stub)
    return folder
