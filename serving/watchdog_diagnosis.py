"""From a reading of the known plate to the part that is to blame for it."""

from __future__ import annotations

import time
from typing import Final

from serving.errors import ProbeError, ServingError
from serving.watchdog_case import Case
from serving.watchdog_models import silent_models
from serving.watchdog_prober import ProbeOutcome
from serving.watchdog_remedies import Remedies

HELD_S: Final = 1.0
"""A process that a signal holds for so long is taken for dead."""


class Diagnosis:
    """Runs on the watching thread and orders the remedies."""

    def __init__(self, case: Case, remedies: Remedies) -> None:
        self._case = case
        self._remedies = remedies
        self._held: dict[int, float] = {}  # process id -> when it was first seen held

    def look_for_held(self) -> None:
        """Replace what a signal holds for long: its sibling answers, so that no probe misses it."""
        case = self._case
        now = time.monotonic()
        held = [stub for stub in case.stubs if stub.held]
        self._held = {stub.pid: self._held.get(stub.pid, now) for stub in held}
        lasting = [stub for stub in held if now - self._held[stub.pid] >= HELD_S]
        if lasting and not case.stopping.is_set():
            self._remedies.replace_models(lasting, "stub_held")

    def judge(self, outcome: ProbeOutcome) -> None:
        """Take note of a reading; find out what is wrong where it was not right."""
        case = self._case
        if outcome.began < case.recovered_at:
            return  # asked before the remedy
        case.journal.probes.labels(outcome.result).inc()
        if outcome.error is None:
            case.bad_probes = 0
            case.journal.probe_seconds.observe(outcome.duration_s)
            case.status.right_answer()
            return
        if outcome.error.kind == "overloaded":
            case.status.refused()
            return
        case.bad_probes += 1
        case.status.bad_answer(str(outcome.error))
        case.journal.write("probe_failed", kind=outcome.error.kind, error=str(outcome.error))
        self._find_out(outcome.error)

    def _find_out(self, error: ProbeError) -> None:
        """The processes are alive and yet the answer is bad: who is to blame?"""
        case, failures = self._case, self._case.settings.failures
        if any(stub.held for stub in case.stubs):
            return  # `look_for_held` deals with it
        if error.kind == "timeout":
            self._find_who_hangs(error)
        elif case.bad_probes >= failures:
            self._remedies.replace_server(f"{error.kind}_answer", error=str(error))

    def _find_who_hangs(self, error: ProbeError) -> None:
        case, failures = self._case, self._case.settings.failures
        try:
            silent = silent_models(
                case.server,
                sorted({stub.model for stub in case.stubs}),
                case.settings.probe_timeout_s,
            )
        except ServingError as failure:
            if case.bad_probes >= failures:
                self._remedies.replace_server("server_hung", error=str(failure))
            return
        blamed = [stub for stub in case.stubs if stub.model in silent]
        if blamed:
            self._remedies.replace_models(blamed, "stub_hung")
        elif case.bad_probes > failures:
            self._remedies.replace_server("no_answer", error=str(error))
