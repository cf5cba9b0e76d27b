"""Single pictures that come at once, as from cameras on one trigger: does any of them wait?

Closed-loop load hides a batcher that sleeps, as the next request wakes it; a pause does not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc  # type: ignore[import-untyped]
import numpy as np

from load_tests.requests_raw import METHOD, TIMEOUT_S, Content, serialise
from lprnet import contract

SIZES: Final = (2, 8, 32)
MODELS: Final = (contract.CROP_ENSEMBLE, contract.IMAGE_ENSEMBLE)
PAUSE_S: Final = 0.004
LATE_MS: Final = 100.0


@dataclass(frozen=True)
class Burst:
    """What the bursts of one size saw.

    Attributes:
        model: that was asked.
        size: requests of a burst.
        requests: of all bursts.
        p50_ms, p99_ms, max_ms: from the sending of a request to its answer.
        late: requests that took more than `LATE_MS`.
    """

    model: str
    size: int
    requests: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    late: int


def send_bursts(url: str, model: str, inputs: Sequence[Content], size: int, rounds: int) -> Burst:
    """`rounds` times `size` requests of one picture, each burst after the last one's end.

    Raises:
        grpc.RpcError: of the first request that failed.
    """
    requests = serialise(model, inputs)
    latencies: list[float] = []
    with grpc.insecure_channel(url) as channel:
        call = channel.unary_unary(METHOD)
        for number in range(rounds + 1):
            indices = range(number * size, (number + 1) * size)
            taken = _burst(call, [requests[index % len(requests)] for index in indices])
            if number:  # the first one opens the connection
                latencies += taken
            time.sleep(PAUSE_S)
    millis = 1e3 * np.array(latencies)
    p50, p99 = np.percentile(millis, [50, 99])
    late = int(np.count_nonzero(millis > LATE_MS))
    return Burst(model, size, len(millis), float(p50), float(p99), float(millis.max()), late)


def _burst(call: Any, requests: list[bytes]) -> list[float]:
    ends = [0.0] * len(requests)
    left = threading.Semaphore(0)

    def ended(index: int) -> None:
        ends[index] = time.perf_counter()
        left.release()

    begins, futures = [], []
    for index, request in enumerate(requests):
        begins.append(time.perf_counter())
        future = call.future(request, timeout=TIMEOUT_S)
        future.add_done_callback(lambda _, index=index: ended(index))
        futures.append(future)
    for _ in requests:
        left.acquire()
    for future in futures:
        future.result()  # its error, if it has one
    return [end - begin for begin, end in zip(begins, ends, strict=True)]
