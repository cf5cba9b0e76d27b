"""When to call again: exponential back-off with jitter, under a budget and a deadline.

gRPC has retries of its own (a service config), and tritonclient adds none. They are not used:
gRPC caps them at five attempts, which do not outlast the restart of a server, and gives them up
for requests over 256 KiB unless told otherwise. Ours run until the call's deadline.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import random
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Final

from clients.errors import ClientError, ConfigurationError, ServerUnreachable, is_transient

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetryPolicy:
    """How a client retries calls that failed for the moment (`clients.errors.is_transient`).

    Attributes:
        first_delay_s: before the second attempt; doubles with every further one.
        max_delay_s: the delay grows no further.
        budget: retries that may be spent before successes earn new ones, over all calls of a
            client. It keeps clients from multiplying the load of a server that is drowning, so
            attempts to reach a server that is down cost nothing of it. 0 switches retries off.
        earned_per_success: what a successful call puts back into the budget.
    """

    first_delay_s: float = 0.05
    max_delay_s: float = 1.0
    budget: float = 1000.0
    earned_per_success: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.first_delay_s <= self.max_delay_s < math.inf:
            raise ConfigurationError("delays are above 0, first_delay_s at most max_delay_s")
        if not (0 <= self.budget < math.inf and 0 <= self.earned_per_success < math.inf):
            raise ConfigurationError("budget and earned_per_success are 0 or more")

    def delay_s(self, attempt: int) -> float:
        """Pause after failed attempt 0, 1, ...: half of it fixed, half of it random.

        Without the random half, clients that failed together would return together.
        """
        full = min(self.max_delay_s, self.first_delay_s * 2.0 ** min(attempt, 30))
        return full * (0.5 + 0.5 * random.random())


class RetryBudget:
    """Counts a policy's budget over all calls of a client. Safe to use from several threads."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self._left = policy.budget
        self._spent = 0
        self._lock = threading.Lock()

    @property
    def spent(self) -> int:
        """Retries so far."""
        return self._spent

    def take(self, *, free: bool = False) -> bool:
        """Spend one retry; False when none is left.

        Args:
            free: count it without charging it, since it puts no load on anybody.
        """
        with self._lock:
            if self.policy.budget < 1 or (self._left < 1 and not free):
                return False
            self._left -= 0 if free else 1
            self._spent += 1
            return True

    def earn(self) -> None:
        """Tell of a successful call."""
        with self._lock:
            self._left = min(self.policy.budget, self._left + self.policy.earned_per_success)


class RequestIds:
    """Names for the requests of one client: `CLIENT-NUMBER`, unique among clients.

    Triton's log and traces, the models' own log lines and the client's errors carry them.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._client = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    def next(self) -> str:
        """The next name. Safe to use from several threads, and in forked processes."""
        if self._process != os.getpid():
            self.__init__()  # type: ignore[misc]
        return f"{self._client}-{next(self._numbers)}"


class Attempts:
    """The attempts of one call.

    Args:
        budget: of the client.
        timeout_s: deadline of the call over all its attempts, counted from now.
        request_id: of the request, for errors and the log; empty where there is none.
    """

    def __init__(self, budget: RetryBudget, timeout_s: float, request_id: str = "") -> None:
        self._budget = budget
        self._request_id = request_id
        self._end_s = time.monotonic() + timeout_s
        self._failed = 0

    @property
    def left_s(self) -> float:
        """Time until the deadline; never 0, which gRPC would take for an expired one."""
        return max(0.001, self._end_s - time.monotonic())

    def pause_s(self, error: ClientError) -> float:
        """How long to wait before the next attempt.

        Raises:
            ClientError: `error` itself, when there shall be no further attempt.
        """
        error.request_id = self._request_id
        pause = self._budget.policy.delay_s(self._failed)
        self._failed += 1
        if not is_transient(error) or pause >= self.left_s:
            raise error
        if not self._budget.take(free=isinstance(error, ServerUnreachable)):
            raise error
        _LOG.info("request %s again in %.3f s: %s", self._request_id or "-", pause, error)
        return pause

    def succeeded(self) -> None:
        """The call is answered."""
        self._budget.earn()
