"""Prometheus metrics of the plates that were read, beside Triton's own.

Each change of a metric is a message to tritonserver: plates are added up here and sent once a
second, so that reading costs nothing. The histogram is made of counters for the same reason; its
names are those that Prometheus' `histogram_quantile` expects. The watchdog's readings of its known
plate are counted as well: two plates a second.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

INTERVAL_S: Final = 1.0
BOUNDS: Final = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Upper bounds of the confidence histogram's buckets, inclusive."""


class PlateMetrics:
    """Counts on the thread that reads, sends on its own.

    Raises:
        TritonModelException: when the server was started without metrics.
    """

    def __init__(self) -> None:
        counter = pb_utils.MetricFamily.COUNTER

        def family(name: str, what: str) -> Any:
            return pb_utils.MetricFamily(name=name, description=what, kind=counter)

        # Families must outlive their metrics.
        self._families = [
            family("lprnet_plates_total", "Crops that were read"),
            family("lprnet_empty_plates_total", "Crops in which no character was found"),
            family("lprnet_confidence_sum", "Sum of the confidences of plates with characters"),
            family("lprnet_confidence_count", "Plates with characters"),
            family("lprnet_confidence_bucket", "Plates with characters by confidence, cumulative"),
        ]
        plates, empty, total, count, bucket = self._families
        # A process of its own label: of two that share a counter (one comes, one goes when the
        # model is loaded anew) the first to end would free it under the other's hands.
        own = {"process": str(os.getpid())}
        self._metrics = [family.Metric(labels=own) for family in (plates, empty, total, count)]
        bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
        self._metrics += [bucket.Metric(labels={**own, "le": bound}) for bound in bounds]
        self._pending = np.zeros(len(self._metrics))
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="plate-metrics", daemon=True)
        self._thread.start()

    def add(self, plates: list[str], confidence: npt.NDArray[np.float32]) -> None:
        """Count a batch: texts and FP32 [N] confidences 0..1."""
        filled = confidence[[bool(plate) for plate in plates]]
        below = [np.count_nonzero(filled <= bound) for bound in BOUNDS]
        values = [len(plates), len(plates) - len(filled), filled.sum(), len(filled)]
        with self._lock:
            self._pending += [*values, *below, len(filled)]

    def close(self) -> None:
        """Send the rest and end the thread."""
        self._ended.set()
        self._thread.join()
        self._send()
        self._metrics.clear()
        self._families.clear()

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self._send()

    def _send(self) -> None:
        with self._lock:
            values, self._pending = self._pending, np.zeros(len(self._metrics))
        for metric, value in zip(self._metrics, values.tolist(), strict=True):
            if value:
                metric.increment(value)
