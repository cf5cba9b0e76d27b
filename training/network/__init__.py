"""The network family: `small` (the shipped default) and the reference's baselines."""

from __future__ import annotations

from typing import Any

from torch import nn

from lprnet.errors import LprnetError
from lprnet.plate_spec import PlateSpec
from training.network.baseline import Baseline
from training.network.macs import count_macs, count_parameters
from training.network.small import Small, SmallConfig

NETWORKS = ("small", "baseline10", "baseline18")

__all__ = [
    "NETWORKS",
    "Baseline",
    "Small",
    "SmallConfig",
    "build_network",
    "count_macs",
    "count_parameters",
    "network_spec",
]


def network_spec(name: str) -> tuple[int, int]:
    """(time_steps, rows) that a network of the family writes."""
    if name == "small":
        return 48, 2
    if name in ("baseline10", "baseline18"):
        return 24, 1
    raise LprnetError(f"unknown network {name!r}: choose one of {', '.join(NETWORKS)}")


def build_network(name: str, spec: PlateSpec, options: dict[str, Any] | None = None) -> nn.Module:
    """Make a network: FP32 [N, 3, 48, 96] RGB in 0..1 -> logits FP32 [N, T, classes].

    Args:
        name: one of `NETWORKS`.
        spec: fixes classes and T; must agree with the network's own time steps.
        options: fields of `SmallConfig` that differ from its defaults; `small` only.

    Raises:
        LprnetError: for an unknown name, unknown options or a spec that does not fit.
    """
    steps, rows = network_spec(name)
    if (spec.time_steps, spec.rows) != (steps, rows):
        raise LprnetError(
            f"{name} writes {steps} time steps in {rows} row(s), "
            f"but the plate spec names {spec.time_steps} in {spec.rows}"
        )
    if name == "small":
        return Small(spec.classes, SmallConfig.from_options(options or {}))
    if options:
        raise LprnetError(f"{name} takes no network options, got {sorted(options)}")
    return Baseline(spec.classes, blocks_per_stage=2 if name == "baseline18" else 1)
