"""What the watchdog saw and did: one JSON line an event, and Prometheus metrics of its own."""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of `Journal.exposition`."""
PROBE_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
RECOVERY_BUCKETS_S = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 15.0, 30.0, 60.0)


class Journal:
    """Writes events to standard error and counts them. Safe to use from several threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._lock = threading.Lock()
        self.probes = Counter(
            "lprnet_watchdog_probes",
            "Readings of the known plate by result",
            ["result"],
            registry=self.registry,
        )
        self.probe_seconds = Histogram(
            "lprnet_watchdog_probe_seconds",
            "Time of a right answer through both ensembles",
            buckets=PROBE_BUCKETS_S,
            registry=self.registry,
        )
        self.events = Counter(
            "lprnet_watchdog_events", "Events by kind", ["event"], registry=self.registry
        )
        self.restarts = Counter(
            "lprnet_watchdog_restarts",
            "Recoveries: a model was loaded anew, or the whole server",
            ["what"],
            registry=self.registry,
        )
        self.recovery_seconds = Histogram(
            "lprnet_watchdog_recovery_seconds",
            "From the fault's discovery to the right answer",
            ["what"],
            buckets=RECOVERY_BUCKETS_S,
            registry=self.registry,
        )
        self.ready = Gauge(
            "lprnet_ready", "1 while the known plate is read right", registry=self.registry
        )

    def write(self, event: str, **details: object) -> None:
        """One event: a line of JSON on standard error, and a count."""
        self.events.labels(event).inc()
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "source": "watchdog", "event": event, **details})
        with self._lock:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)
