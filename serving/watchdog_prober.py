"""Reads the known plate every second on a thread of its own, so that a hang holds nobody up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import tritonclient.grpc as grpcclient

from serving.errors import ProbeError, ServingError
from serving.probe import Probe, ask


@dataclass(frozen=True)
class ProbeOutcome:
    """One reading of the known plate.

    Attributes:
        began: `time.monotonic` when it was sent; an outcome older than a recovery is stale.
        duration_s: until the answer or the failure.
        error: None for the right answer.
    """

    began: float
    duration_s: float
    error: ProbeError | None

    @property
    def result(self) -> str:
        """Label for metrics."""
        return "right" if self.error is None else self.error.kind


class Prober:
    """A thread that probes and reports each outcome.

    Args:
        connect: opens a client of the server that runs now.
        probe: picture and answer.
        interval_s: from one probe's end to the next one's begin.
        timeout_s: deadline of each ensemble's answer.
        report: is called on the thread.
    """

    def __init__(
        self,
        connect: Callable[[], grpcclient.InferenceServerClient],
        probe: Probe,
        interval_s: float,
        timeout_s: float,
        report: Callable[[ProbeOutcome], None],
    ) -> None:
        self._connect = connect
        self._probe = probe
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._report = report
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; a probe under way ends with its deadline."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        client: grpcclient.InferenceServerClient | None = None
        while not self._ended.wait(self._interval_s):
            begin = time.monotonic()
            error: ProbeError | None = None
            try:
                if client is None:
                    client = self._connect()
                ask(client, self._probe, self._timeout_s)
            except ProbeError as failure:
                error = failure
            except ServingError as failure:  # no server runs at the moment
                error = ProbeError(str(failure))
            if error is not None and client is not None:
                client.close()  # the next server may be another one
                client = None
            self._report(ProbeOutcome(begin, time.monotonic() - begin, error))
        if client is not None:
            client.close()
