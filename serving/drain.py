"""The order in which a server ends, so that every request that it took is answered."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from typing import Final

from serving.guard import KILL_NOW
from serving.launch import Launched
from serving.server_log import ServerLog

POLL_S: Final = 0.05
EMPTY_LOOKS: Final = 3
"""Queues that are empty so often in a row stay so: a request is between two models for less."""
UNLOAD_S: Final = 3.0
"""For the models' own end, when every request is answered."""
_WAITING: Final = "nv_inference_pending_request_count{"


def drain(
    launched: Launched, metrics_url: str, timeout_s: float, hurry: Callable[[], bool]
) -> None:
    """Let the queues run empty, before SIGTERM.

    After SIGTERM tritonserver finishes the model that a request is in, and then refuses the
    request at the door of the ensemble's next model.

    Args:
        launched: the server.
        metrics_url: of its Prometheus metrics, which tell the length of the queues.
        timeout_s: what is not answered by then is lost.
        hurry: True once nobody shall wait any more.
    """
    deadline = time.monotonic() + timeout_s
    empty = 0
    while empty < EMPTY_LOOKS and time.monotonic() < deadline:
        if hurry() or launched.process.poll() is not None:
            return
        waiting = waiting_requests(metrics_url)
        if waiting is None:
            return
        empty = empty + 1 if waiting == 0 else 0
        time.sleep(POLL_S)


def waiting_requests(metrics_url: str) -> float | None:
    """Requests in all queues; None when the server does not say."""
    try:
        with urllib.request.urlopen(metrics_url, timeout=1) as answer:
            text = answer.read().decode()
    except (OSError, ValueError):
        return None
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(_WAITING))


def hasten(launched: Launched, log: ServerLog | None, timeout_s: float) -> None:
    """After SIGTERM: do not wait for models to unload once all requests are answered.

    tritonserver waits its whole exit timeout for a model whose process was killed once.
    """
    stop_began = time.monotonic()
    drained_at: float | None = None
    while launched.process.poll() is None:
        now = time.monotonic()
        if drained_at is None and log is not None and log.drained():
            drained_at = now
        if drained_at is not None and now - drained_at > UNLOAD_S:
            launched.process.send_signal(KILL_NOW)
            return
        if drained_at is None and now - stop_began > timeout_s:
            return  # the guard ends it
        time.sleep(POLL_S)
