"""What the watchdog knows of its server at this moment: the truth behind /healthz and /readyz."""

from __future__ import annotations

import enum
import threading
import time
from typing import Any, Final

STALE_BEAT_S: Final = 60.0
"""The watching thread beats every second; a start of a server may take this long."""
LOST_S: Final = 120.0
"""Not ready for so long: let Kubernetes try another container."""


class State(enum.Enum):
    """Of the service as a whole."""

    STARTING = "starting"
    READY = "ready"
    OVERLOADED = "overloaded"
    FAILING = "failing"
    RECOVERING = "recovering"
    STOPPING = "stopping"


class Status:
    """Safe to use from several threads.

    Args:
        probe_interval_s, probe_timeout_s: a right answer older than the probes should be is none.
    """

    def __init__(self, probe_interval_s: float, probe_timeout_s: float) -> None:
        # Each of the two ensembles may take the timeout, and one probe may be under way.
        self._stale_s = probe_interval_s + 2 * probe_timeout_s + 1.0
        self._lock = threading.Lock()
        now = time.monotonic()
        self._state = State.STARTING
        self._answered_at: float | None = None
        self._beat_at = self._unready_since = now
        self._error: str | None = None
        self._recoveries = 0

    def enter(self, state: State) -> None:
        """Change the state; READY is entered by a right answer only."""
        with self._lock:
            self._leave_ready()
            if self._state is not State.STOPPING:
                self._state = state

    def right_answer(self) -> None:
        """The known plate was read right."""
        with self._lock:
            self._answered_at = time.monotonic()
            self._error = None
            if self._state is not State.STOPPING:
                self._state = State.READY

    def recovered(self) -> None:
        """A remedy helped: it was proven by a right answer."""
        self.right_answer()
        with self._lock:
            self._recoveries += 1

    def refused(self) -> None:
        """A queue is full: the server works, on others' requests.

        Still ready: were it not, a load balancer would take one replica after the other out of
        service while each is working at its best.
        """
        with self._lock:
            if self._state in (State.READY, State.OVERLOADED):
                self._state = State.OVERLOADED
                self._answered_at = time.monotonic()

    def bad_answer(self, error: str) -> None:
        """Wrong, late or none."""
        with self._lock:
            self._leave_ready()
            self._error = error
            if self._state in (State.READY, State.OVERLOADED):
                self._state = State.FAILING

    def beat(self) -> None:
        """The watching thread lives."""
        with self._lock:
            self._beat_at = time.monotonic()

    def ready(self) -> bool:
        """Whether a request that came now would be read."""
        with self._lock:
            return self._ready()

    def alive(self) -> bool:
        """Whether waiting helps; False calls for another container."""
        with self._lock:
            now = time.monotonic()
            watching = now - self._beat_at < STALE_BEAT_S + self._stale_s
            return watching and (self._ready() or now - self._unready_since < LOST_S)

    def describe(self) -> dict[str, Any]:
        """For people who look at the endpoint."""
        with self._lock:
            age = None if self._answered_at is None else time.monotonic() - self._answered_at
            return {
                "ready": self._ready(),
                "state": self._state.value,
                "right_answer_age_s": None if age is None else round(age, 3),
                "recoveries": self._recoveries,
                "error": self._error,
            }

    def _ready(self) -> bool:
        fresh = (
            self._answered_at is not None and time.monotonic() - self._answered_at < self._stale_s
        )
        return fresh and self._state in (State.READY, State.OVERLOADED)

    def _leave_ready(self) -> None:
        if self._state in (State.READY, State.OVERLOADED):
            self._unready_since = time.monotonic()
