"""The network in the form that runtimes run fast: the same function, other operators.

A CPU runtime keeps pictures with their channels last and pays for every tensor that leaves this
layout, and OpenVINO packs the weights of a matrix product anew in every call of a batch of one.
So what training writes as matrix products and five-dimensional views is exported as convolutions
and element-wise work on [N, C, H, W].
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from training.network.small import ROWS, RowReaders, Small


def served_form(network: nn.Module) -> nn.Module:
    """A copy that answers like `network`; networks without a faster form come back as they are."""
    if not isinstance(network, Small):
        return network
    fast: Small = copy.deepcopy(network)
    fast.readers = _Readers(fast.readers)  # type: ignore[assignment]
    fast.summary = _Pointwise(fast.summary)  # type: ignore[assignment]
    return fast


class _Pointwise(nn.Module):
    """A linear layer as a 1 x 1 convolution: [N, C] -> [N, C']."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.conv = nn.Conv2d(linear.in_features, linear.out_features, 1)
        self.conv.weight = nn.Parameter(linear.weight.detach()[:, :, None, None].clone())
        self.conv.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x[:, :, None, None])
        return y.flatten(1)


class _Readers(nn.Module):
    """`RowReaders` with each head's weights copied to its channels by a convolution."""

    def __init__(self, readers: RowReaders) -> None:
        super().__init__()
        self.score, self.position = readers.score, readers.position
        size = readers.channels // readers.heads
        copies = torch.eye(readers.heads).repeat_interleave(size, dim=0)  # [C, heads]
        for row in range(ROWS):
            spread = torch.zeros(readers.channels, ROWS * readers.heads, 1, 1)
            spread[:, row * readers.heads : (row + 1) * readers.heads, 0, 0] = copies
            self.register_buffer(f"spread_{row}", spread)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, 6, 24] -> [N, C, ROWS, 24]."""
        weights = torch.softmax(self.score(x) + self.position, dim=2)  # over height
        rows = []
        for row in range(ROWS):
            mine = nn.functional.conv2d(weights, self.get_buffer(f"spread_{row}"))
            rows.append((x * mine).sum(dim=2, keepdim=True))
        return torch.cat(rows, dim=2)
