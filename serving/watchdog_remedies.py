"""Two remedies: load one model anew while the others go on, or run another server.

A model that does not come back makes it a new server. Starts that fail are repeated ever more
slowly, and never given up: a gate has nobody beside it to press a button.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from typing import Final

from serving.errors import ProbeError, ServingError
from serving.probe import ask
from serving.watchdog_case import Case
from serving.watchdog_models import load_anew
from serving.watchdog_status import State
from serving.watchdog_stubs import Stub

RELOADS_WINDOW_S: Final = 60.0
FIRST_PAUSE_S: Final = 0.5
CONFIRM_POLL_S: Final = 0.02


class Remedies:
    """Runs on the watching thread; each remedy ends with a right answer or with the next one."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._reloads: deque[float] = deque()

    def replace_missing(self, gone: list[Stub]) -> None:
        """Make the models whole after these processes have ended, or been replaced by somebody."""
        case = self._case
        missing = case.missing(gone)
        for stub in gone:
            if stub.model not in missing:
                case.journal.write("stub_replaced", model=stub.model, pid=stub.pid)
        if missing and not case.stopping.is_set():
            dead = [stub for stub in gone if stub.model in missing]
            self.replace_models(dead, "stub_died", missing)

    def replace_models(
        self, stubs: list[Stub], cause: str, models: Collection[str] = frozenset()
    ) -> None:
        """Load the models of dead or hung processes anew, and what dies meanwhile.

        Args:
            stubs: those processes.
            cause: of the journal.
            models: others that lack a process.
        """
        case = self._case
        begin = time.monotonic()
        case.status.enter(State.RECOVERING)
        for stub in stubs:
            case.journal.write(cause, model=stub.model, pid=stub.pid)
            if stub in case.stubs:  # one that hangs must not wake up later: the server might abort
                stub.kill()
        names = sorted({stub.model for stub in stubs} | set(models))
        if self._too_many(begin, len(names)):
            self.replace_server("too_many_reloads")
            return
        case.retire(names)
        try:
            for model in names:
                load_anew(case.server, model, case.settings.load_timeout_s)
            for stub in stubs:
                stub.remove_segment()
            if not self._confirm():
                return  # told to stop
        except ServingError as error:
            if not case.stopping.is_set():
                self.replace_server("reload_failed", error=str(error))
            return
        case.end_retired()
        gone = case.look_for_stubs()
        case.recovered("model", begin, models=names)
        self.replace_missing(gone)

    def replace_server(self, cause: str, **details: object) -> None:
        """Kill what is left of the server and start another on the same ports."""
        case = self._case
        begin = time.monotonic()
        case.status.enter(State.RECOVERING)
        case.journal.write(cause, **details)
        case.forget_stubs()
        pause_s = 0.0
        case.restarting = True
        while not case.stopping.wait(pause_s):
            case.status.beat()
            try:
                case.server.restart()
                break
            except ServingError as error:
                pause_s = min(max(FIRST_PAUSE_S, pause_s * 2), case.settings.max_pause_s)
                case.journal.write("restart_failed", error=str(error), next_try_s=pause_s)
        else:
            return
        case.restarting = False
        self._reloads.clear()
        case.look_for_stubs()
        case.recovered("server", begin, start_s=round(case.server.start_s, 3))

    def _too_many(self, now: float, count: int) -> bool:
        """Count reloads; whether there were more lately than loading anew can be the cure for."""
        self._reloads.extend(now for _ in range(count))
        while self._reloads and self._reloads[0] < now - RELOADS_WINDOW_S:
            self._reloads.popleft()
        if len(self._reloads) <= self._case.settings.reloads_per_minute:
            return False
        self._reloads.clear()
        return True

    def _confirm(self) -> bool:
        """Wait for the right answer; False when told to stop.

        Raises:
            ProbeError: the last one, when there is none in time.
        """
        case = self._case
        deadline = time.monotonic() + case.settings.confirm_s
        while not case.stopping.is_set():
            try:
                with case.server.connect() as client:
                    ask(client, case.server.probe, case.settings.probe_timeout_s)
                return True
            except ProbeError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(CONFIRM_POLL_S)
        return False
