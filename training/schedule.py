"""Learning rate and loss weights as functions of the step alone."""

from __future__ import annotations

import math

from training.config import OptimSection


def learning_rate(optim: OptimSection, step: int) -> float:
    """Linear warm-up, a plateau, then a cosine to zero over the last `decay_share` of steps."""
    peak = optim.learning_rate
    if step < optim.warmup_steps:
        return peak * (step + 1) / optim.warmup_steps
    decay_steps = max(1, round(optim.steps * optim.decay_share))
    begin = max(optim.warmup_steps, optim.steps - decay_steps)
    if step < begin:
        return peak
    share = (step - begin) / max(1, optim.steps - begin)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def frame_loss_weight(optim: OptimSection, step: int) -> float:
    """Falls linearly from `frame_loss` to `frame_loss_floor`."""
    share = min(1.0, step / max(1, optim.frame_loss_steps))
    return optim.frame_loss + (optim.frame_loss_floor - optim.frame_loss) * share
