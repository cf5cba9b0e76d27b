"""The one server that a watchdog keeps, and what its parts know of it together."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from serving.errors import ServingError
from serving.options import WatchdogOptions
from serving.server import TritonServer
from serving.watchdog_journal import Journal
from serving.watchdog_models import instance_counts
from serving.watchdog_status import Status
from serving.watchdog_stubs import Stub, by_age, find_stubs

RETIREMENT_S: Final = 10.0
"""For a process to end that was replaced: it answers what it holds first, and Triton takes a
second to notice."""


@dataclass
class Case:
    """Belongs to the watching thread, but for `stopping`, `restarting`, journal and status.

    Attributes:
        server: that is watched.
        settings: of the watchdog.
        journal, status: what is told outside.
        instances: how many processes each Python model has when it is whole.
        stubs: those processes, as last seen.
        retired: processes that a load has replaced, and when they are to have ended.
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
    retired: list[tuple[Stub, float]] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    restarting: bool = False
    recovered_at: float = 0.0
    bad_probes: int = 0

    def look_for_stubs(self) -> list[Stub]:
        """See which processes run the models now.

        Returns:
            those that were followed and are no longer there, closed.
        """
        # A server that does not answer now has the models that it had.
        with contextlib.suppress(ServingError):
            self.instances.update(instance_counts(self.server, self.settings.probe_timeout_s))
        launched = self.server.launched
        retired = {stub.pid for stub, _ in self.retired}
        found = find_stubs(launched.pid, launched.shm_prefix)
        current = [stub for stub in found if stub.pid not in retired]
        before, (self.stubs, _) = self.stubs, by_age(current, self.instances)
        pids = {stub.pid for stub in self.stubs}
        for stub in [*before, *(stub for stub in found if stub.pid not in pids)]:
            stub.close()
        return [stub for stub in before if stub.pid not in pids]

    def missing(self, gone: Collection[Stub]) -> set[str]:
        """Models that lack a process; where their number is unknown, those of `gone` do."""
        alive = Counter(stub.model for stub in self.stubs)
        short = {model for model, count in self.instances.items() if alive[model] < count}
        return short | {stub.model for stub in gone if stub.model not in self.instances}

    def retire(self, models: Collection[str]) -> None:
        """What runs these models now will be replaced: its end is no fault."""
        deadline = time.monotonic() + RETIREMENT_S
        self.retired += [(stub, deadline) for stub in self.stubs if stub.model in models]
        self.stubs = [stub for stub in self.stubs if stub.model not in models]

    def end_retired(self) -> None:
        """Kill what should have ended: Triton does not always end a dead process's sibling."""
        going = []
        for stub, deadline in self.retired:
            if not stub.ended and time.monotonic() < deadline:
                going.append((stub, deadline))
                continue
            stub.kill()
            stub.remove_segment()
            stub.close()
        self.retired = going

    def forget_stubs(self) -> None:
        """Close their descriptors."""
        for stub in [*self.stubs, *(stub for stub, _ in self.retired)]:
            stub.close()
        self.stubs, self.retired = [], []

    def recovered(self, what: str, begin: float, **details: object) -> None:
        """A remedy that began at `begin` was proven by a right answer."""
        now = time.monotonic()
        self.recovered_at = now
        self.bad_probes = 0
        self.status.recovered()
        self.journal.restarts.labels(what).inc()
        self.journal.recovery_seconds.labels(what).observe(now - begin)
        self.journal.write("recovered", what=what, duration_s=round(now - begin, 3), **details)
