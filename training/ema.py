"""Exponential moving average of weights and normalisation statistics."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """Average of a network's state; smoother and better than the last weights.

    The decay grows as (1 + step) / (10 + step) up to `decay`, so that the first average is not
    the random start.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards `network` after optimiser step `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        mine = self.network.state_dict()
        for name, tensor in network.state_dict().items():
            if tensor.dtype.is_floating_point:
                mine[name].lerp_(tensor, 1 - decay)
            else:
                mine[name].copy_(tensor)

    @torch.no_grad()
    def heal(self, network: nn.Module) -> None:
        """Put the average in place of statistics of `network` that are not finite.

        A forward pass that overflows leaves them so for good, and the next update would spread
        them to the average.
        """
        mine = dict(self.network.named_buffers())
        for name, buffer in network.named_buffers():
            if buffer.dtype.is_floating_point and not torch.isfinite(buffer).all():
                buffer.copy_(mine[name])
