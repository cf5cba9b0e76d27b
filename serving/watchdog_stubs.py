"""The processes of Triton's Python models, seen from outside: which runs what, and its end.

Triton neither restarts a dead Python stub nor says that it is dead. The kernel does: a pidfd
becomes readable the moment its process ends.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from serving.find import STUB
from serving.guard import SHARED_MEMORY

STOPPED: Final = frozenset("Tt")
"""States in /proc/PID/stat of a process that a signal or a debugger holds."""
_MODEL_ARGUMENT: Final = 1  # PATH/MODEL/VERSION/model.py
_SEGMENT_ARGUMENT: Final = 2


@dataclass(frozen=True)
class Stub:
    """One Python model's process.

    Attributes:
        pid: process id.
        pidfd: readable once the process has ended; closed by `close`.
        model: name of the model that it runs.
        segment: name of its shared memory in /dev/shm.
        started: clock ticks from the machine's start to its own.
    """

    pid: int
    pidfd: int
    model: str
    segment: str
    started: int

    @property
    def held(self) -> bool:
        """Whether a signal such as SIGSTOP holds it: it will not answer."""
        found = _status(self.pid)
        return found is not None and found.state in STOPPED

    @property
    def ended(self) -> bool:
        """Whether it has."""
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(0))

    def kill(self) -> None:
        """SIGKILL; a process that has ended already is no error."""
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return

    def remove_segment(self) -> None:
        """Free the name in /dev/shm, which tritonserver would keep until it ends."""
        (SHARED_MEMORY / self.segment).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.pidfd)


def find_stubs(server_pid: int, shm_prefix: str) -> list[Stub]:
    """The living stubs among the children of a tritonserver; the caller closes them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        status = _status(pid)
        if status is None or status.parent != server_pid:
            continue
        try:
            # Opened before its arguments are read, so that both are of the same process.
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        arguments = _arguments(pid)
        if (
            len(arguments) > _SEGMENT_ARGUMENT
            and Path(arguments[0]).name == STUB
            and arguments[_SEGMENT_ARGUMENT].startswith(shm_prefix)
        ):
            model = Path(arguments[_MODEL_ARGUMENT]).parent.parent.name
            found.append(Stub(pid, pidfd, model, arguments[_SEGMENT_ARGUMENT], status.started))
        else:  # ended, not yet the stub after its fork, or another program
            os.close(pidfd)
    return found


def by_age(stubs: Iterable[Stub], instances: Mapping[str, int]) -> tuple[list[Stub], list[Stub]]:
    """The youngest stubs of each model, by model name, and the older ones.

    Just after a load the processes that are on their way out live on beside the new ones.

    Args:
        stubs: living ones.
        instances: how many stubs each model has when it is whole; of a model that is not in it all
            count as young.
    """
    by_model: dict[str, list[Stub]] = {}
    # By process id only within a tick: ids begin anew at the kernel's limit.
    for stub in sorted(stubs, key=lambda stub: (-stub.started, -stub.pid)):
        by_model.setdefault(stub.model, []).append(stub)
    newest, older = [], []
    for model in sorted(by_model):
        count = instances.get(model, len(by_model[model]))
        newest += by_model[model][:count]
        older += by_model[model][count:]
    return newest, older


def is_running(pid: int) -> bool:
    """Whether the process exists and has not ended."""
    found = _status(pid)
    return found is not None and found.state not in "ZX"


class _Status(NamedTuple):
    state: str
    parent: int
    started: int


def _status(pid: int) -> _Status | None:
    """Fields 3, 4 and 22 of /proc/PID/stat (proc_pid_stat(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rsplit(")", 1)[1].split()
    return _Status(fields[0], int(fields[1]), int(fields[19]))


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []
