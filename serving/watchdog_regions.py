"""Frees the shared memory of clients that were killed: nobody else tells the server to.

A client that ends without `close` leaves its regions registered, and tritonserver keeps what is
registered mapped until it ends itself. Python's resource tracker removes only the file, and not
even that when it was killed along. A living client removes a file after it has unregistered, so a
region without a file is nobody's. A file that its process is not seen to use may belong to a client
in another container; the kernel knows whether anybody still has it open.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any, Final

import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from lprnet.contract import CLIENT_REGION_PREFIX
from serving.errors import ServingError
from serving.guard import SHARED_MEMORY
from serving.server import TritonServer
from serving.watchdog_journal import Journal

LOOK_S: Final = 1.0
"""For all calls of one look together; what is not done by then is done at the next."""
DOUBT_S: Final = 3600.0
"""A region whose client is not seen is unregistered at most so often: should its client live in
another container, that costs it a request that it repeats by itself."""
_NAME: Final = re.compile(re.escape(CLIENT_REGION_PREFIX) + r"([0-9]+)_[0-9a-f]+")


class RegionSweeper:
    """A thread that looks for left-over regions now and then, apart from probes and remedies.

    Args:
        server: that runs now; it may be replaced meanwhile.
        journal: is told of what was removed, and of the first look that failed.
        interval_s: from one look to the next.
    """

    def __init__(self, server: TritonServer, journal: Journal, interval_s: float) -> None:
        self._server = server
        self._journal = journal
        self._interval_s = interval_s
        self._doubted: dict[str, float] = {}  # region -> when it was unregistered
        self._told = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="regions", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End the thread; a look under way ends with its deadline."""
        self._ended.set()
        self._thread.join()

    def look(self) -> None:
        """Unregister what no client uses any more and remove its files. Raises nothing.

        A server that does not answer, or has no such protocol, is none of this thread's business:
        the probes judge it.
        """
        regions = files = 0
        deadline = time.monotonic() + LOOK_S
        self._doubted = {name: at for name, at in self._doubted.items() if _has_file(name)}
        try:
            with self._server.connect() as client:
                registered = self._registered(client, deadline)
                gone = {name for name in registered if self._is_left(name)}
                for name in sorted(gone):
                    regions += self._unregister(client, name, deadline)
            files = remove_unused_files()
        except (InferenceServerException, ServingError, OSError) as error:
            self._tell(error)
        if regions or files:
            self._journal.write("regions_removed", regions=regions, files=files)

    def _run(self) -> None:
        while not self._ended.wait(self._interval_s):
            self.look()

    def _registered(self, client: grpcclient.InferenceServerClient, deadline: float) -> list[str]:
        """Regions of our clients; of others it is not known what a missing file means."""
        status: Any = client.get_system_shared_memory_status(
            headers=self._server.key_headers, client_timeout=_left_s(deadline)
        )
        return [
            name
            for name, region in status.regions.items()
            if _NAME.fullmatch(name) and region.key == f"/{name}"
        ]

    def _is_left(self, name: str) -> bool:
        if not _has_file(name):
            return True
        # The server has it open itself, which hides from the kernel whether somebody else has: to
        # find that out it must be unregistered.
        doubted_at = self._doubted.get(name, -DOUBT_S)
        return not _client_is_seen(name) and time.monotonic() - doubted_at >= DOUBT_S

    def _unregister(
        self, client: grpcclient.InferenceServerClient, name: str, deadline: float
    ) -> bool:
        """Whether that succeeded; a request of the dead client may still use the region."""
        if self._ended.is_set() or time.monotonic() > deadline:
            return False
        try:
            client.unregister_system_shared_memory(
                name, headers=self._server.key_headers, client_timeout=_left_s(deadline)
            )
        except InferenceServerException as error:
            self._tell(error)
            return False
        self._doubted[name] = time.monotonic()
        return True

    def _tell(self, error: Exception) -> None:
        """Once: a server that cannot be asked is none that fails."""
        if not self._told:
            self._told = True
            self._journal.write("regions_not_freed", error=str(error))


def remove_unused_files() -> int:
    """Remove files of regions whose client is not seen and that nobody has open; how many."""
    paths = SHARED_MEMORY.glob(f"{CLIENT_REGION_PREFIX}*")
    return sum(
        _remove_unused(path.name)
        for path in paths
        if _NAME.fullmatch(path.name) and not _client_is_seen(path.name)
    )


def _remove_unused(name: str) -> bool:
    """Remove a file that no process, of whatever container, has open for writing or mapped.

    The kernel leases a file for reading only then, and only to its owner. Where it knows no leases
    the file stays.
    """
    path = SHARED_MEMORY / name
    try:
        # Anybody may put anything there: a link elsewhere, a pipe that opens only when written.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # Who opens it meanwhile has us sent a signal, by default SIGIO, which would end us.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)  # ends the lease
    return True


def _has_file(name: str) -> bool:
    return (SHARED_MEMORY / name).exists()


def _client_is_seen(name: str) -> bool:
    """Whether the process that the name names uses the region, as far as can be seen from here.

    A mere process of that number proves nothing: containers count from 1, each for itself.
    """
    found = _NAME.fullmatch(name)
    assert found is not None
    try:
        return name in Path(f"/proc/{found[1]}/maps").read_text(encoding="utf-8", errors="replace")
    except PermissionError:  # another user's
        return True
    except (FileNotFoundError, ProcessLookupError):
        return False


def _left_s(deadline: float) -> float:
    return max(0.01, deadline - time.monotonic())
