"""Parent of tritonserver: ends it, its Python stubs and its shared memory, whatever happens.

Runs as a process of its own with the standard library only. It stops the server when its standard
input ends (also because the program that holds the other end was killed) or on SIGTERM: SIGTERM
to the server, SIGKILL to the whole process group after a deadline, then it removes the shared
memory that carries the server's prefix and the server's private folder. SIGUSR1 skips the SIGTERM.
Should the guard itself be killed, the kernel kills the server.

Its settings are the first line of its standard input and not arguments, which every user of the
machine can read: they hold the server's key.

Examples:
  { echo '{"command": ["tritonserver"], "exit_timeout_s": 10, "shm_prefix": "lprnet-1-",
    "runtime_folder": "/run/x"}' | tr -d '\n'; echo; sleep inf; } | python guard.py
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
SHARED_MEMORY = Path("/dev/shm")
OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
POLL_S = 1.0
STACK_BYTES = 256 << 20
"""Of each thread of tritonserver, at most. Triton's HTTP front end (24.10) puts two bytes there for
each one of a request's body and seventy for each bracket of nested JSON: with the usual 8 MiB a
body of 4.2 MB, a few ordinary pictures, ends the server (triton-inference-server/server issue
5840). Only what is used becomes memory."""
GRACE_S = 3.0
"""Beyond tritonserver's own exit timeout, before SIGKILL."""
KILL_TIMEOUT_S = 10.0
SHM_MARK = "lprnet-"
"""How the prefix of every server of ours begins."""
LOCK = "lock"
KILL_NOW = signal.SIGUSR1
"""Ends the server without waiting for running requests."""


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _strict_overcommit() -> bool:
    try:
        return OVERCOMMIT.read_text(encoding="ascii").strip() == "2"
    except OSError:  # hidden in this container
        return False


def _prepare_server() -> None:
    """In the process that becomes tritonserver."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if _strict_overcommit():
        return  # there every stack counts in full, and some 300 threads would not get theirs
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = STACK_BYTES if hard == resource.RLIM_INFINITY else min(STACK_BYTES, hard)
    # Unlimited means 2 MiB to glibc's threads.
    if soft == resource.RLIM_INFINITY or soft < wanted:
        resource.setrlimit(resource.RLIMIT_STACK, (wanted, hard))


class Guard:
    """One server and its end."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._parent = os.getppid()
        self._wake_reader, wake_writer = os.pipe()
        os.set_blocking(wake_writer, False)
        signal.set_wakeup_fd(wake_writer)
        self._stop = False
        self._hurry = False
        signal.signal(KILL_NOW, self._on_kill)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only wakes the wait
        _prctl(PR_SET_CHILD_SUBREAPER, 1)  # stubs whose server died become ours to reap

    def _on_stop(self, *_: object) -> None:
        self._stop = True

    def _on_kill(self, *_: object) -> None:
        self._stop = self._hurry = True

    def run(self) -> int:
        """Start the server, wait for its end or for the order to end it; returns its exit code."""
        sweep()
        hold_lock(self._settings["shm_prefix"])
        server = subprocess.Popen(
            self._settings["command"],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            start_new_session=True,
            # Safe here: this process has no threads.
            preexec_fn=_prepare_server,  # noqa: PLW1509
        )
        print(server.pid, flush=True)
        sys.stdout.close()
        try:
            while server.poll() is None and not self._stop_ordered():
                pass
            if server.poll() is None and not self._hurry:
                server.terminate()
                self._wait(server, self._settings["exit_timeout_s"] + GRACE_S)
        finally:
            self._kill_group(server)
            self._clean()
        return server.wait()

    def _stop_ordered(self) -> bool:
        ready, _, _ = select.select([0, self._wake_reader], [], [], POLL_S)
        if self._wake_reader in ready:
            os.read(self._wake_reader, 512)
        ended = 0 in ready and not os.read(0, 512)
        return self._stop or ended or os.getppid() != self._parent

    def _wait(self, server: subprocess.Popen[bytes], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while server.poll() is None and not self._hurry:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                print(f"guard: no end after {timeout_s:g} s, sending SIGKILL", file=sys.stderr)
                return
            if select.select([self._wake_reader], [], [], left_s)[0]:  # SIGCHLD wakes it too
                os.read(self._wake_reader, 512)

    def _kill_group(self, server: subprocess.Popen[bytes]) -> None:
        """SIGKILL what is left of the server and its stubs, and wait until it is gone."""
        deadline = time.monotonic() + KILL_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                os.killpg(server.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            # The server first: its exit code must not be lost to the waitpid for the stubs.
            if server.poll() is not None:
                with contextlib.suppress(ChildProcessError):
                    while os.waitpid(-server.pid, os.WNOHANG)[0] != 0:
                        pass
            time.sleep(0.01)
        print("guard: processes of the server do not end", file=sys.stderr)

    def _clean(self) -> None:
        remove_segments(self._settings["shm_prefix"])
        shutil.rmtree(self._settings["runtime_folder"], ignore_errors=True)


def remove_segments(prefix: str) -> None:
    """Remove all shared memory of one server."""
    for segment in SHARED_MEMORY.glob(prefix + "*"):
        segment.unlink(missing_ok=True)


def hold_lock(prefix: str) -> int:
    """Mark the prefix as in use for as long as this process lives; returns the descriptor."""
    lock = os.open(SHARED_MEMORY / (prefix + LOCK), os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def sweep() -> None:
    """Remove the shared memory of servers whose guard was killed: nobody holds their lock."""
    for path in SHARED_MEMORY.glob(SHM_MARK + "*" + LOCK):
        try:
            lock = os.open(path, os.O_RDWR)
        except OSError:  # another user's, or gone meanwhile
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_segments(path.name.removesuffix(LOCK))
        except BlockingIOError:
            pass  # in use
        finally:
            os.close(lock)


def read_settings() -> dict[str, Any]:
    """The first line of standard input; what follows, its end above all, is left for `Guard`."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            raise SystemExit("guard: no settings on standard input")
        line += byte
    settings: dict[str, Any] = json.loads(line)
    return settings


if __name__ == "__main__":
    code = Guard(read_settings()).run()
    sys.exit(code if code >= 0 else 128 - code)
