"""Words of the server -> named errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clients.errors import (
    InvalidPicture,
    ModelNotFound,
    RegionLost,
    ServerError,
    ServerUnavailable,
    ServerUnreachable,
    from_words,
    is_transient,
)
from clients.retry import Attempts, RetryBudget, RetryPolicy

CORE = Path(__file__).resolve().parents[2] / "lprnet"


def test_every_reason_of_the_core_is_understood():
    source = "".join(path.read_text() for path in CORE.glob("*.py"))
    reasons = set(re.findall(r'ImageError\(\s*"([a-z_]+)"', source))
    assert len(reasons) >= 8
    for reason in reasons:
        error = from_words("INVALID_ARGUMENT", f"picture 12: {reason}: it is so")
        assert isinstance(error, InvalidPicture)
        assert (error.reason, error.index, str(error)) == (reason, 12, "it is so")


@pytest.mark.parametrize(
    ("code", "words", "kind", "transient"),
    [
        ("INTERNAL", "corrupt: memory", ServerError, False),
        ("INTERNAL", "Stub process 'lprnet_0_0' is not healthy.", ServerError, True),
        ("INVALID_ARGUMENT", "[request id: <id_unknown>] unexpected shape", ServerError, False),
        ("NOT_FOUND", "Request for unknown model: 'lpr_image' is not found", ModelNotFound, False),
        ("INVALID_ARGUMENT", "Unable to find shared memory region: 'x'", RegionLost, False),
    ],
)
def test_other_errors(code, words, kind, transient):
    error = from_words(code, words)
    assert type(error) is kind
    assert is_transient(error) == transient
    assert words in str(error)


def test_a_server_that_is_down_costs_no_budget():
    policy = RetryPolicy(first_delay_s=0.001, max_delay_s=0.001, budget=2)
    budget = RetryBudget(policy)
    attempts = Attempts(budget, timeout_s=10)
    down, busy = ServerUnreachable("down"), ServerUnavailable("queue full")
    for _ in range(50):
        attempts.pause_s(down)
    attempts.pause_s(busy)
    attempts.pause_s(busy)
    with pytest.raises(ServerUnavailable):
        attempts.pause_s(busy)
    assert budget.spent == 52
    never = Attempts(RetryBudget(RetryPolicy(budget=0)), timeout_s=10)
    with pytest.raises(ServerUnreachable):
        never.pause_s(down)
