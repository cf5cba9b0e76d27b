"""Cost of a network, measured by running it on a zero picture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lprnet.plate_spec import DEFAULT_SPEC


def count_parameters(network: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_macs(network: nn.Module) -> int:
    """Multiply-accumulates of one 3 x 48 x 96 picture in convolutions, linear layers and LSTMs.

    Element-wise work (normalisation folds away, activations, attention's weighted sum) is not
    counted, as is the custom.
    """
    total = 0

    def conv(module: nn.Conv2d, _: Any, output: Tensor) -> None:
        nonlocal total
        kernel = module.weight[0].numel()
        total += output.numel() * kernel

    def linear(module: nn.Linear, _: Any, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * module.in_features

    def lstm(module: nn.LSTM, _: Any, output: tuple[Tensor, Any]) -> None:
        nonlocal total
        steps = output[0].shape[1]
        total += steps * 4 * module.hidden_size * (module.input_size + module.hidden_size)

    hooks = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(conv))
        elif isinstance(module, nn.Linear):
            hooks.append(module.register_forward_hook(linear))
        elif isinstance(module, nn.LSTM):
            hooks.append(module.register_forward_hook(lstm))
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, *DEFAULT_SPEC.image_shape))
    finally:
        for hook in hooks:
            hook.remove()
        network.train(training)
    return total
