"""Requests at a steady rate from a retrying client that knows every answer."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt
from onnx_samples import paint

from clients import ClientError, ClientOptions, PlateClient

TEXTS = ("AB1CD", "XY77Z", "K0LM9", "QQ11", "7", "")
_REQUEST_ID = re.compile(r" ?\[request[^]]*\]")
WORKERS = 200
"""Requests that may wait at once: 50 a second for the longest recovery."""


def png(crop: npt.NDArray[np.uint8]) -> bytes:
    """A crop as a picture file."""
    return bytes(cv2.imencode(".png", cv2.cvtColor(crop.transpose(1, 2, 0), cv2.COLOR_RGB2BGR))[1])


class Load:
    """A context manager: requests flow from entering to leaving it.

    Args:
        url: gRPC address.
        rate_per_s: requests begun a second, whether or not earlier ones are answered.
        timeout_s: deadline of a request over all its retries; how it retries is the client's
            default.

    Attributes:
        right, wrong: answers.
        lost: error -> count.
        latencies_s: of right answers.
    """

    def __init__(self, url: str, rate_per_s: float = 50, timeout_s: float = 60) -> None:
        self._rate_per_s = rate_per_s
        self._crops = [paint(text)[np.newaxis] for text in TEXTS]
        self._files = [png(crop[0]) for crop in self._crops]
        self._client = PlateClient(url, ClientOptions(timeout_s=timeout_s))
        self._ended = threading.Event()
        self._dropped = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="load")
        self.right = self.wrong = 0
        self.lost: Counter[str] = Counter()
        self.latencies_s: list[float] = []

    @property
    def retries(self) -> int:
        """Calls that were repeated."""
        return self._client.retries

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        if error is not None:  # nobody will look at the answers
            self._dropped.set()
            self._client.close()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        with ThreadPoolExecutor(WORKERS) as pool:
            number, due = 0, time.monotonic()
            while not self._ended.is_set():
                pool.submit(self._ask, number)
                number += 1
                due += 1 / self._rate_per_s
                time.sleep(max(0.0, due - time.monotonic()))

    def _ask(self, number: int) -> None:
        if self._dropped.is_set():
            return
        begin = time.monotonic()
        which = number // 2 % len(TEXTS)
        try:
            if number % 2:
                plate = self._client.read_image(self._files[which]).plate
            else:
                plate = self._client.read_crops(self._crops[which])[0].plate
        except ClientError as error:
            with self._lock:
                told = _REQUEST_ID.sub("", str(error))  # alike but for it: one entry
                self.lost[f"{type(error).__name__}: {told[:160]}"] += 1
            return
        with self._lock:
            if plate == TEXTS[which]:
                self.right += 1
                self.latencies_s.append(time.monotonic() - begin)
            else:
                self.wrong += 1

    def figures(self) -> dict[str, object]:
        """For the report."""
        latencies = sorted(self.latencies_s) or [0.0]
        return {
            "right": self.right,
            "wrong": self.wrong,
            "lost": dict(self.lost),
            "retries": self.retries,
            "p50_ms": round(latencies[len(latencies) // 2] * 1000, 1),
            "p99_ms": round(latencies[int(len(latencies) * 0.99)] * 1000, 1),
            "max_ms": round(latencies[-1] * 1000, 1),
        }
