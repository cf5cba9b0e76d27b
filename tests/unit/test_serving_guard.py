"""The guard with small programs in tritonserver's place: every end leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from serving import guard

SHM = guard.SHARED_MEMORY

# A server that makes a segment, starts a stub that ignores SIGTERM, and ends on SIGTERM or never.
SERVER = """
import os, pathlib, signal, subprocess, sys, time
prefix, obedient = sys.argv[1:]
pathlib.Path("/dev/shm", prefix + "region").write_bytes(b"x")
stub = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", stub, prefix])
signal.signal(signal.SIGTERM, (lambda *_: os._exit(0)) if obedient == "yes" else signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""


class Running:
    """A guard with the server above, its segment and stub made."""

    def __init__(self, folder: Path, *, obedient: bool = True, under: list[str] | None = None):
        self.prefix = f"{guard.SHM_MARK}{uuid.uuid4().hex[:12]}-"
        self.folder = folder / "runtime"
        self.folder.mkdir()
        command = [sys.executable, "-c", SERVER, self.prefix, "yes" if obedient else "no"]
        settings = {
            "command": command,
            "exit_timeout_s": 0.2,
            "shm_prefix": self.prefix,
            "runtime_folder": str(self.folder),
        }
        self.process = subprocess.Popen(
            [*(under or []), sys.executable, guard.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdin.write(json.dumps(settings) + "\n")
        self.process.stdin.flush()
        self.server_pid = int(self.process.stdout.readline())
        assert self.process.stderr.readline() == "up\n"

    def left(self) -> list[str]:
        """Processes, shared memory and folder that are still there."""
        processes = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(self.prefix.encode() in argument for argument in arguments):
                processes.append(b" ".join(arguments).decode()[:200])
        segments = [path.name for path in SHM.glob(self.prefix + "*")]
        return processes + segments + ([str(self.folder)] if self.folder.exists() else [])


def wait_until(condition: Callable[[], bool], timeout_s: float = 20) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_end_of_input_ends_everything(tmp_path: Path) -> None:
    running = Running(tmp_path)
    # Server, stub, region, lock, folder: nothing names the guard. A stub that has only just been
    # started has no arguments yet.
    assert wait_until(lambda: len(running.left()) == 5)
    assert running.process.stdin is not None
    running.process.stdin.close()
    assert running.process.wait(20) == 0
    assert running.left() == []


def test_sigterm_ends_everything(tmp_path: Path) -> None:
    running = Running(tmp_path)
    running.process.terminate()
    assert running.process.wait(20) == 0
    assert running.left() == []


def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    running = Running(tmp_path, obedient=False)
    begin = time.monotonic()
    running.process.terminate()
    assert running.process.wait(20) == 128 + signal.SIGKILL
    assert time.monotonic() - begin >= guard.GRACE_S
    assert running.left() == []


def test_a_stopped_server_is_killed(tmp_path: Path) -> None:
    running = Running(tmp_path)
    os.kill(running.server_pid, signal.SIGSTOP)
    running.process.terminate()
    assert running.process.wait(20) == 128 + signal.SIGKILL
    assert running.left() == []


def test_a_hurried_guard_waits_for_nobody(tmp_path: Path) -> None:
    running = Running(tmp_path, obedient=False)
    begin = time.monotonic()
    running.process.send_signal(guard.KILL_NOW)
    assert running.process.wait(20) == 128 + signal.SIGKILL
    assert time.monotonic() - begin < guard.GRACE_S
    assert running.left() == []


def test_nobody_reads_the_settings_in_the_list_of_processes(tmp_path: Path) -> None:
    running = Running(tmp_path)
    arguments = Path(f"/proc/{running.process.pid}/cmdline").read_text()
    assert running.prefix not in arguments
    running.process.send_signal(guard.KILL_NOW)
    running.process.wait(20)


def test_a_server_that_dies_takes_its_stub_along(tmp_path: Path) -> None:
    running = Running(tmp_path)
    os.kill(running.server_pid, signal.SIGKILL)
    assert running.process.wait(20) == 128 + signal.SIGKILL
    assert running.left() == []


def test_a_guard_that_is_killed_takes_the_server_along_and_the_next_one_cleans_up(
    tmp_path: Path,
) -> None:
    running = Running(tmp_path)
    running.process.kill()
    running.process.wait(20)
    assert wait_until(lambda: not Path(f"/proc/{running.server_pid}").exists())
    assert wait_until(lambda: list(SHM.glob(running.prefix + "*")) != [])
    try:
        guard.sweep()
        assert list(SHM.glob(running.prefix + "*")) == []
    finally:
        os.killpg(running.server_pid, signal.SIGKILL)  # the small stub, which outlives its server


def test_sweeping_leaves_running_servers_alone(tmp_path: Path) -> None:
    running = Running(tmp_path)
    guard.sweep()
    assert len(list(SHM.glob(running.prefix + "*"))) == 2
    running.process.terminate()
    running.process.wait(20)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_the_program_that_started_it_ends_everything(
    tmp_path: Path, number: signal.Signals
) -> None:
    # The shell holds the other end of the guard's input, as `lprnet serve` does.
    launcher = (
        "import subprocess, sys; p = subprocess.Popen(sys.argv[1:], stdin=-1, close_fds=True);"
        "p.stdin.write(sys.stdin.buffer.readline()); p.stdin.flush(); p.wait()"
    )
    running = Running(tmp_path, under=[sys.executable, "-c", launcher])
    running.process.send_signal(number)
    running.process.wait(20)
    assert wait_until(lambda: running.left() == []), running.left()
