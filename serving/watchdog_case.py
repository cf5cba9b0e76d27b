"""The one server that a watchdog keeps, and what its parts know of it together."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from serving.errors import ServingError
from serving.options import WatchdogOptions
from serving.server import TritonServer
from serving.watchdog_journal import Journal
from serving.watchdog_models import instance_counts
from serving.watchdog_status import Status
from serving.watchdog_stubs import Stub, newest_stubs


@dataclass
class Case:
    """Belongs to the watching thread, but for `stopping`, `restarting`, journal and status.

    Attributes:
        server: that is watched.
        settings: of the watchdog.
        journal, status: what is told outside.
        instances: how many processes each Python model has when it is whole.
        stubs: those processes, as last seen.
        stopping: set when all shall end.
        restarting: whether another server is being started; `TritonServer.abort` ends that.
        recovered_at: `time.monotonic` of the last proven remedy.
        bad_probes: readings of the known plate that failed since the last right one or remedy.
    """

    server: TritonServer
    settings: WatchdogOptions
    journal: Journal
    status: Status
    instances: dict[str, int] = field(default_factory=dict)
    stubs: list[Stub] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    restarting: bool = False
    recovered_at: float = 0.0
    bad_probes: int = 0

    def look_for_stubs(self) -> None:
        """See which processes run the models now."""
        self.forget_stubs()
        # A server that does not answer now has the models that it had.
        with contextlib.suppress(ServingError):
            self.instances.update(instance_counts(self.server, self.settings.probe_timeout_s))
        launched = self.server.launched
        self.stubs, older = newest_stubs(launched.pid, launched.shm_prefix, self.instances)
        for stub in older:
            stub.close()

    def incomplete(self) -> set[str]:
        """Models of which a process is missing."""
        alive = Counter(stub.model for stub in self.stubs)
        return {model for model, count in self.instances.items() if alive[model] < count}

    def end_superseded(self, models: Collection[str]) -> None:
        """Kill what a load has replaced: Triton does not always end a dead process's sibling."""
        launched = self.server.launched
        newest, older = newest_stubs(launched.pid, launched.shm_prefix, self.instances)
        for stub in older:
            if stub.model in models:
                stub.kill()
                stub.remove_segment()
        for stub in newest + older:
            stub.close()

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
