"""What a server leaves on its machine: processes and shared memory. For tests."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from serving.guard import LOCK, SHARED_MEMORY, SHM_MARK


def processes_with(text: str) -> dict[int, str]:
    """Processes of the machine that name `text` in their arguments, but not this one."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if text in arguments and int(entry.name) != os.getpid():
            found[int(entry.name)] = arguments
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float = 60) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def segments() -> set[str]:
    """Shared memory of servers of ours, but not of those that others run at the same time."""
    found = {path.name for path in SHARED_MEMORY.glob(SHM_MARK + "*")}
    for name in {name for name in found if name.endswith(LOCK)}:
        try:
            with (SHARED_MEMORY / name).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = {other for other in found if not other.startswith(name.removesuffix(LOCK))}
        except FileNotFoundError:
            found.discard(name)
    return found
