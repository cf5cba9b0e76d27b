"""The one server that a watchdog keeps, and what its parts know of it together."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from serving.options import WatchdogOptions
from serving.server import TritonServer
from serving.watchdog_journal import Journal
from serving.watchdog_status import Status
from serving.watchdog_stubs import Stub, newest_stubs


@dataclass
class Case:
    """Belongs to the watching thread, but for `stopping`, `restarting`, journal and status.

    Attributes:
        server: that is watched.
        settings: of the watchdog.
        journal, status: what is told outside.
        stubs: the processes of its Python models, as last seen.
        stopping: set when all shall end.
        restarting: whether another server is being started; `TritonServer.abort` ends that.
        recovered_at: `time.monotonic` of the last proven remedy.
        bad_probes: readings of the known plate that failed since the last right one or remedy.
    """

    server: TritonServer
    settings: WatchdogOptions
    journal: Journal
    status: Status
    stubs: list[Stub] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    restarting: bool = False
    recovered_at: float = 0.0
    bad_probes: int = 0

    def look_for_stubs(self) -> None:
        """See which processes run the models now."""
        self.forget_stubs()
        launched = self.server.launched
        self.stubs = newest_stubs(launched.pid, launched.shm_prefix)

    def forget_stubs(self) -> None:
        """Close their descriptors."""
        for stub in self.stubs:
            stub.close()
        self.stubs = []

    def recovered(self, what: str, begin: float, **details: object) -> None:
        """A remedy that began at `begin` was proven by a right answer."""
        now = time.monotonic()
        self.recovered_at = now
        self.bad_probes = 0
        self.status.recovered()
        self.journal.restarts.labels(what).inc()
        self.journal.recovery_seconds.labels(what).observe(now - begin)
        self.journal.write("recovered", what=what, duration_s=round(now - begin, 3), **details)
