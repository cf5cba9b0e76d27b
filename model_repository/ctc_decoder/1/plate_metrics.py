"""What the decoder tells Prometheus of the plates that were read.

The histogram is made of counters (`lprnet.triton_model.Counters`); its names are those that
Prometheus' `histogram_quantile` expects. The watchdog's readings of its known plate are counted
as well: two plates a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from lprnet.triton_model import Count, Counters

BOUNDS: Final = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Upper bounds of the confidence histogram's buckets, inclusive."""


class PlateMetrics:
    """Keeps the confidences of the last second, at most; sums are for the sending thread."""

    def __init__(self) -> None:
        self._pending: deque[tuple[tuple[str, ...], Any]] = deque()  # safe to share with a thread
        self._counters = Counters(
            {
                "lprnet_plates_total": "Crops that were read",
                "lprnet_empty_plates_total": "Crops in which no character was found",
                "lprnet_confidence_sum": "Sum of the confidences of plates with characters",
                "lprnet_confidence_count": "Plates with characters",
                "lprnet_confidence_bucket": "Plates with characters by confidence, cumulative",
            },
            self._collect,
        )

    def add(self, plates: tuple[str, ...], confidence: Any) -> None:
        """Count a batch: texts and FP32 [N] confidences 0..1."""
        if self._counters.kept:
            self._pending.append((plates, confidence))

    def close(self) -> None:
        """Send the last counts."""
        self._counters.close()

    def _collect(self) -> Iterator[Count]:
        batches = [self._pending.popleft() for _ in range(len(self._pending))]
        if not batches:
            return
        texts = [text for plates, _ in batches for text in plates]
        confidence = np.concatenate([values for _, values in batches])
        filled = confidence[[bool(text) for text in texts]]
        yield "lprnet_plates_total", None, len(texts)
        yield "lprnet_empty_plates_total", None, len(texts) - len(filled)
        yield "lprnet_confidence_sum", None, float(filled.sum(dtype=np.float64))
        yield "lprnet_confidence_count", None, len(filled)
        for bound in BOUNDS:
            below = int(np.count_nonzero(filled <= bound))
            yield "lprnet_confidence_bucket", ("le", f"{bound:g}"), below
        yield "lprnet_confidence_bucket", ("le", "+Inf"), len(filled)
