"""How many users there are at each moment of a load test."""

from __future__ import annotations

from typing import Final

SHAPES: Final = ("steady", "ramp", "spike", "soak")
RAMP_STEPS: Final = 5
SPIKE_FROM, SPIKE_TO = 0.4, 0.6
"""Part of the run in which a spike's users are there."""
CALM: Final = 0.1
"""Users outside a spike, as a part of the peak."""
SOAK_USERS: Final = 0.5
"""Users of a soak, as a part of the peak: half load, for as long as it takes."""


def users_at(shape: str, elapsed_s: float, duration_s: float, peak_users: int) -> int | None:
    """Users that a shape wants, at least 1; None when the run is over.

    Args:
        shape: one of `SHAPES`.
        elapsed_s: since the run began.
        duration_s: of the whole run.
        peak_users: most users of the run.

    Raises:
        ValueError: for an unknown shape.
    """
    if shape not in SHAPES:
        raise ValueError(f"no shape {shape!r}: one of {', '.join(SHAPES)}")
    if elapsed_s >= duration_s:
        return None
    part = elapsed_s / duration_s
    share = 1.0
    if shape == "ramp":
        share = (int(part * RAMP_STEPS) + 1) / RAMP_STEPS
    elif shape == "spike":
        share = 1.0 if SPIKE_FROM <= part < SPIKE_TO else CALM
    elif shape == "soak":
        share = SOAK_USERS
    return max(1, round(peak_users * share))
