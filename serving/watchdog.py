"""Keeps a server reading: finds dead, hung and wrong parts at once and replaces them.

Three senses: the kernel tells of the end of the server and of each Python model's process; a known
plate is read through both ensembles every second and the answer must be right; where it is not
answered, each model is asked by itself. Two remedies: load one model anew (others go on), or kill
the server and start another on the same ports. Remedies that do not last are repeated ever more
slowly, and never given up: a gate has nobody beside it to press a button.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType

from serving.addresses import reachable
from serving.errors import ProbeError, ServingError
from serving.guard import KILL_TIMEOUT_S
from serving.options import ServerOptions
from serving.probe import ask
from serving.server import TritonServer
from serving.watchdog_http import HealthEndpoint, json_answer
from serving.watchdog_journal import Journal
from serving.watchdog_models import load_anew, silent_models
from serving.watchdog_prober import ProbeOutcome, Prober
from serving.watchdog_status import State, Status
from serving.watchdog_stubs import Stub, find_stubs, is_running


@dataclass(frozen=True)
class WatchdogOptions:
    """Attributes:
    probe_interval_s: from one reading of the known plate to the next.
    probe_timeout_s: for the answer of each ensemble.
    failures: bad probes in a row that count as a fault when no process is dead or held.
    load_timeout_s: to load a model anew; a new server after that.
    confirm_s: from a remedy to the right answer; a new server after that.
    reloads_per_minute: more of them, and a new server is tried.
    max_pause_s: longest pause between two starts of a server that does not stay.
    """

    probe_interval_s: float = 1.0
    probe_timeout_s: float = 2.0
    failures: int = 2
    load_timeout_s: float = 30.0
    confirm_s: float = 10.0
    reloads_per_minute: int = 20
    max_pause_s: float = 30.0


class Watchdog:
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
        self.server = TritonServer(options)
        self.settings = WatchdogOptions() if settings is None else settings
        self.journal = Journal()
        self.status = Status(self.settings.probe_interval_s, self.settings.probe_timeout_s)
        self.journal.ready.set_function(lambda: float(self.status.ready()))
        self._stubs: list[Stub] = []
        self._outcomes: deque[ProbeOutcome] = deque()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        self._stopping = threading.Event()
        self._recovered_at = 0.0
        self._reloads: deque[float] = deque()
        self._bad_probes = 0
        self._restarting = False
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
                "/metrics": lambda: (
                    200,
                    "text/plain; version=0.0.4; charset=utf-8",
                    self.journal.exposition(),
                ),
            },
        )
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
        self._stopping.set()
        self._wake()
        if self._restarting:
            self.server.abort()
        if self._thread.is_alive():
            self._thread.join()
        self.server.stop()
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None
            self.journal.write("stopped")

    def __enter__(self) -> Watchdog:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # --- the watching thread ------------------------------------------------------------------

    def _run(self) -> None:
        settings = self.settings
        self._look_for_stubs()
        prober = Prober(
            self.server.connect,
            self.server.probe,
            settings.probe_interval_s,
            settings.probe_timeout_s,
            self._report,
        )
        try:
            while not self._stopping.is_set():
                self._step()
        finally:
            prober.close()
            self._forget_stubs()

    def _step(self) -> None:
        """Wait for whatever happens next and answer it."""
        self.status.beat()
        guard = os.pidfd_open(self.server.launched.process.pid)
        try:
            poller = select.poll()
            for descriptor in (self._wake_reader, guard, *(stub.pidfd for stub in self._stubs)):
                poller.register(descriptor, select.POLLIN)
            ready = {fd for fd, _ in poller.poll(self.settings.probe_interval_s * 1000)}
        finally:
            os.close(guard)
        if self._wake_reader in ready:
            os.read(self._wake_reader, 512)
        if self._stopping.is_set():
            return
        # Stubs follow their server into death: first see whether it is the server that died.
        if guard in ready or not is_running(self.server.launched.pid):
            self._replace_server("server_died", exit_code=self.server.wait(KILL_TIMEOUT_S))
            return
        dead = [stub for stub in self._stubs if stub.pidfd in ready]
        if dead:
            self._look_for_stubs()
            followed = {stub.model for stub in self._stubs}
            for stub in dead:
                if stub.model in followed:  # somebody loaded it anew
                    self.journal.write("stub_replaced", model=stub.model, pid=stub.pid)
            dead = [stub for stub in dead if stub.model not in followed]
        if dead:
            self._replace_models(dead, "stub_died")
        while self._outcomes and not self._stopping.is_set():
            self._judge(self._outcomes.popleft())

    def _judge(self, outcome: ProbeOutcome) -> None:
        if outcome.began < self._recovered_at:
            return  # asked before the remedy
        self.journal.probes.labels(outcome.result).inc()
        if outcome.error is None:
            self._bad_probes = 0
            self.journal.probe_seconds.observe(outcome.duration_s)
            self.status.right_answer()
            return
        if outcome.error.kind == "overloaded":
            self.status.refused()
            return
        self._bad_probes += 1
        self.status.bad_answer(str(outcome.error))
        self.journal.write("probe_failed", kind=outcome.error.kind, error=str(outcome.error))
        self._diagnose(outcome.error)

    def _diagnose(self, error: ProbeError) -> None:
        """The processes are alive and yet the answer is bad: find out who is to blame."""
        held = [stub for stub in self._stubs if stub.held]
        if held:
            self._replace_models(held, "stub_held")
        elif error.kind == "timeout":
            try:
                silent = silent_models(
                    self.server,
                    [stub.model for stub in self._stubs],
                    self.settings.probe_timeout_s,
                )
            except ServingError as failure:
                if self._bad_probes >= self.settings.failures:
                    self._replace_server("server_hung", error=str(failure))
                return
            blamed = [stub for stub in self._stubs if stub.model in silent]
            if blamed:
                self._replace_models(blamed, "stub_hung")
            elif self._bad_probes > self.settings.failures:
                self._replace_server("no_answer", error=str(error))
        elif self._bad_probes >= self.settings.failures:
            self._replace_server(f"{error.kind}_answer", error=str(error))

    # --- remedies -----------------------------------------------------------------------------

    def _replace_models(self, stubs: list[Stub], cause: str) -> None:
        begin = time.monotonic()
        self.status.enter(State.RECOVERING)
        for stub in stubs:
            self.journal.write(cause, model=stub.model, pid=stub.pid)
            if stub in self._stubs:  # one that hangs must not wake up later: the server might abort
                stub.kill()
        self._reloads.extend(begin for _ in stubs)
        while self._reloads and self._reloads[0] < begin - 60:
            self._reloads.popleft()
        if len(self._reloads) > self.settings.reloads_per_minute:
            self._reloads.clear()
            self._replace_server("too_many_reloads")
            return
        try:
            for stub in stubs:
                load_anew(self.server, stub.model, self.settings.load_timeout_s)
                stub.remove_segment()
            if not self._confirm():
                return  # told to stop
        except ServingError as error:
            if not self._stopping.is_set():
                self._replace_server("reload_failed", error=str(error))
            return
        self._look_for_stubs()
        self._recovered("model", begin, models=[stub.model for stub in stubs])

    def _replace_server(self, cause: str, **details: object) -> None:
        begin = time.monotonic()
        self.status.enter(State.RECOVERING)
        self.journal.write(cause, **details)
        self._forget_stubs()
        pause_s = 0.0
        self._restarting = True
        while not self._stopping.wait(pause_s):
            self.status.beat()
            try:
                self.server.restart()
                break
            except ServingError as error:
                pause_s = min(max(0.5, pause_s * 2), self.settings.max_pause_s)
                self.journal.write("restart_failed", error=str(error), next_try_s=pause_s)
        else:
            return
        self._restarting = False
        self._reloads.clear()
        self._look_for_stubs()
        self._recovered("server", begin, start_s=round(self.server.start_s, 3))

    def _confirm(self) -> bool:
        """Wait for the right answer; False when told to stop.

        Raises:
            ProbeError: the last one, when there is none in time.
        """
        deadline = time.monotonic() + self.settings.confirm_s
        while not self._stopping.is_set():
            try:
                with self.server.connect() as client:
                    ask(client, self.server.probe, self.settings.probe_timeout_s)
                return True
            except ProbeError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.02)
        return False

    def _recovered(self, what: str, begin: float, **details: object) -> None:
        now = time.monotonic()
        self._recovered_at = now
        self._bad_probes = 0
        self.status.recovered()
        self.journal.restarts.labels(what).inc()
        self.journal.recovery_seconds.labels(what).observe(now - begin)
        self.journal.write("recovered", what=what, duration_s=round(now - begin, 3), **details)

    # --- small things -------------------------------------------------------------------------

    def _look_for_stubs(self) -> None:
        self._forget_stubs()
        launched = self.server.launched
        found = find_stubs(launched.pid, launched.shm_prefix)
        # Just after a load the process that is on its way out lives on beside the new one.
        newest = {stub.model: stub for stub in sorted(found, key=lambda stub: stub.pid)}
        for stub in found:
            if stub is not newest[stub.model]:
                stub.close()
        self._stubs = list(newest.values())

    def _forget_stubs(self) -> None:
        for stub in self._stubs:
            stub.close()
        self._stubs = []

    def _report(self, outcome: ProbeOutcome) -> None:
        self._outcomes.append(outcome)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it is awake
            os.write(self._wake_writer, b"x")
