"""Keeps a server reading: finds dead, hung and wrong parts at once and replaces them.

Three senses: the kernel tells of the end of the server and of each Python model's process; a known
plate is read through both ensembles every second and the answer must be right; where it is not
answered, each model is asked by itself (`watchdog_diagnosis`). What is wrong is replaced
(`watchdog_remedies`). Besides, shared memory that killed clients left is freed
(`watchdog_regions`).
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import deque

from serving.addresses import reachable
from serving.guard import KILL_TIMEOUT_S
from serving.options import ServerOptions, WatchdogOptions
from serving.server import TritonServer
from serving.service import Service
from serving.watchdog_case import Case
from serving.watchdog_diagnosis import Diagnosis
from serving.watchdog_http import HealthEndpoint, json_answer
from serving.watchdog_journal import CONTENT_TYPE, Journal
from serving.watchdog_prober import ProbeOutcome, Prober
from serving.watchdog_regions import RegionSweeper
from serving.watchdog_remedies import Remedies
from serving.watchdog_status import State, Status
from serving.watchdog_stubs import is_running


class Watchdog(Service):
    """A server that is watched; a context manager like `TritonServer`.

    Args:
        options: of the server, and the address of the health endpoint.
        settings: of the watchdog.

    Raises:
        ServingError: from `start`, when the server does not start the first time: what is wrong
            then is a person's to mend.
    """

    def __init__(
        self, options: ServerOptions | None = None, settings: WatchdogOptions | None = None
    ) -> None:
        self.server = TritonServer(options, watched=True)
        self.settings = WatchdogOptions() if settings is None else settings
        self.journal = Journal()
        self.status = Status(self.settings.probe_interval_s, self.settings.probe_timeout_s)
        self.journal.ready.set_function(lambda: float(self.status.ready()))
        self._case = Case(self.server, self.settings, self.journal, self.status)
        self._remedies = Remedies(self._case)
        self._diagnosis = Diagnosis(self._case, self._remedies)
        self._outcomes: deque[ProbeOutcome] = deque()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        self._endpoint: HealthEndpoint | None = None
        self._thread = threading.Thread(target=self._run, name="watchdog")

    @property
    def health_url(self) -> str:
        """`http://HOST:PORT` of /healthz, /readyz and /metrics."""
        options = self.server.options
        return f"http://{reachable(options.health_host)}:{options.health_port}"

    def start(self) -> None:
        """Start the server and watch it on a thread."""
        self.server.start()
        options = self.server.options
        self._endpoint = HealthEndpoint(
            options.health_host,
            options.health_port,
            {
                "/healthz": lambda: json_answer(self.status.alive(), self.status.describe()),
                "/readyz": lambda: json_answer(self.status.ready(), self.status.describe()),
                "/metrics": lambda: (200, CONTENT_TYPE, self.journal.exposition()),
            },
        )
        self._case.look_for_stubs()  # here: the server cannot be stopped meanwhile
        self.status.right_answer()
        self.journal.write(
            "started", grpc=self.server.grpc_url, start_s=round(self.server.start_s, 3)
        )
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait while all is well; True when the watching itself has ended, by `stop` or a bug."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """End the watching, then the server."""
        self.status.enter(State.STOPPING)
        self._case.stopping.set()
        self._wake()
        if self._case.restarting:
            self.server.abort()
        if self._thread.is_alive():
            self._thread.join()
        self.server.stop()
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None
            self.journal.write("stopped")

    # --- the watching thread ------------------------------------------------------------------

    def _run(self) -> None:
        prober = Prober(
            self.server.connect,
            self.server.probe,
            self.settings.probe_interval_s,
            self.settings.probe_timeout_s,
            self._report,
        )
        regions = RegionSweeper(self.server, self.journal, self.settings.regions_interval_s)
        regions.start()
        try:
            while not self._case.stopping.is_set():
                self._step()
        finally:
            prober.close()
            regions.close()
            self._case.forget_stubs()

    def _step(self) -> None:
        """Wait for whatever happens next and answer it."""
        case = self._case
        self.status.beat()
        guard = os.pidfd_open(self.server.launched.process.pid)
        try:
            ready = self._wait_for(guard)
        finally:
            os.close(guard)
        if case.stopping.is_set():
            return
        # Stubs follow their server into death: first see whether it is the server that died.
        if guard in ready or not is_running(self.server.launched.pid):
            exit_code = self.server.wait(KILL_TIMEOUT_S)
            self._remedies.replace_server("server_died", exit_code=exit_code)
            return
        case.end_retired()
        if any(stub.pidfd in ready for stub in case.stubs):
            self._remedies.replace_missing(case.look_for_stubs())
        self._diagnosis.look_for_held()
        while self._outcomes and not case.stopping.is_set():
            self._diagnosis.judge(self._outcomes.popleft())

    def _wait_for(self, guard: int) -> set[int]:
        """Descriptors on which something has happened, within the interval of the probes."""
        poller = select.poll()
        for descriptor in (self._wake_reader, guard, *(stub.pidfd for stub in self._case.stubs)):
            poller.register(descriptor, select.POLLIN)
        ready = {fd for fd, _ in poller.poll(self.settings.probe_interval_s * 1000)}
        if self._wake_reader in ready:
            os.read(self._wake_reader, 512)
        return ready

    def _report(self, outcome: ProbeOutcome) -> None:
        self._outcomes.append(outcome)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it is awake
            os.write(self._wake_writer, b"x")
