"""What a server and its Python models hold: memory of their own, descriptors, shared memory.

The proportional memory (PSS) of a process counts its part of each library's pages: a server at
rest was seen to gain and lose 29 of 149 MiB of it because other programs that map the same
libraries (a second tritonserver, another Python) ended and began. So what is judged is the memory
that nobody else can change: anonymous pages, in memory or swapped out, and the pages of the
server's shared memory. Pages of files are counted apart and per process (RSS), which no other
program changes either.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from serving.guard import SHARED_MEMORY
from serving.watchdog import Watchdog

from . import faults

SERVER = "tritonserver"
_OWN = ("Pss_Anon", "SwapPss", "Pss_Shmem")
_KIB = 1024


@dataclass(frozen=True)
class Sample:
    """What server and models hold at a moment.

    Attributes:
        own_bytes: memory of its own by process: "tritonserver" or the name of a model.
        resident_bytes: RSS of all processes, pages of files included, shared ones many times.
        descriptors: open in all processes.
        segments_bytes: size of the server's files in /dev/shm.
    """

    own_bytes: dict[str, int]
    resident_bytes: int
    descriptors: int
    segments_bytes: int

    @property
    def total_own_bytes(self) -> int:
        """Of all processes."""
        return sum(self.own_bytes.values())


def sample(dog: Watchdog) -> Sample:
    """Look at every process of the server, also at one that is no model's."""
    launched = dog.server.launched
    server = psutil.Process(launched.pid)
    family = [server, *server.children(recursive=True)]
    alive = [process.pid for process in family if process.status() != psutil.STATUS_ZOMBIE]
    names = {launched.pid: SERVER, **_models(dog)}
    own: dict[str, int] = {}
    resident = 0
    for pid in alive:
        pages = _rollup(pid)
        name = names.get(pid, f"process {pid}")
        own[name] = own.get(name, 0) + sum(pages[key] for key in _OWN)
        resident += pages["Rss"]
    return Sample(
        own,
        resident,
        sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in alive),
        sum(path.stat().st_size for path in SHARED_MEMORY.glob(launched.shm_prefix + "*")),
    )


def _models(dog: Watchdog) -> dict[int, str]:
    found = faults.stubs(dog)
    for stub in found:
        stub.close()
    return {stub.pid: stub.model for stub in found}


def _rollup(pid: int) -> dict[str, int]:
    """The kernel's sums over all mappings of a process (Linux 5.5 or newer), bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    pairs = (line.split(":") for line in lines)
    return {key: int(value.split()[0]) * _KIB for key, value in pairs}
