"""The network family against the reference's figures and the contract."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lprnet.charset import TAO_US_CHARSET
from lprnet.errors import LprnetError
from lprnet.plate_spec import DEFAULT_SPEC, PlateSpec
from training.network import (
    NETWORKS,
    build_network,
    count_macs,
    count_parameters,
    network_spec,
)
from training.network.baseline import SameConv

# NVIDIA TAO LPRNet with 35 classes: millions of parameters, billions of MACs.
REFERENCE = {"baseline18": (14.43, 3.03), "baseline10": (11.25, 1.55)}
SMALL_MAX_GMAC = 0.15
SMALL_MAX_FP16_BYTES = 5e6


def spec_of(name: str) -> PlateSpec:
    steps, rows = network_spec(name)
    return PlateSpec(charset=TAO_US_CHARSET, time_steps=steps, rows=rows)


@pytest.mark.parametrize("name", REFERENCE)
def test_baselines_are_the_reference(name: str) -> None:
    network = build_network(name, spec_of(name))
    parameters, macs = REFERENCE[name]
    assert round(count_parameters(network) / 1e6, 2) == parameters
    assert round(count_macs(network) / 1e9, 2) == macs


def test_small_is_small() -> None:
    network = build_network("small", DEFAULT_SPEC)
    assert count_macs(network) / 1e9 <= SMALL_MAX_GMAC
    assert 2 * count_parameters(network) <= SMALL_MAX_FP16_BYTES


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_and_batch_independence(name: str) -> None:
    torch.manual_seed(0)
    spec = spec_of(name)
    network = build_network(name, spec).eval()
    images = torch.rand(5, 3, 48, 96)
    with torch.no_grad():
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
    assert together.shape == (5, spec.time_steps, spec.classes)
    assert torch.allclose(together, alone, atol=1e-4)


def test_stride_two_pads_as_tensorflow_does() -> None:
    conv = SameConv(1, 1, 3, 2)
    with torch.no_grad():
        conv.conv.weight.zero_()
        conv.conv.bias.zero_()
        conv.conv.weight[0, 0, 0, 0] = 1  # copies the window's upper left corner
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert torch.equal(conv(image), image[:, :, ::2, ::2])


def test_rows_are_read_top_then_bottom() -> None:
    """What changes in the crop's lower half moves the second reader at the start of training."""
    torch.manual_seed(0)
    network = build_network("small", DEFAULT_SPEC).eval()
    weights = torch.softmax(network.readers.position.detach(), dim=2)[0, :, :, 0]
    heights = torch.arange(6.0)
    centre = (weights * heights).sum(dim=1)
    top, bottom = centre.chunk(2)
    assert top.max() < 2.5 < bottom.min()


@pytest.mark.parametrize(
    ("name", "spec", "options", "words"),
    [
        ("huge", DEFAULT_SPEC, None, "unknown network"),
        ("baseline10", DEFAULT_SPEC, None, "24 time steps"),
        ("small", PlateSpec(time_steps=24, rows=1), None, "48 time steps"),
        ("small", DEFAULT_SPEC, {"depth": 3}, "no options"),
        ("small", DEFAULT_SPEC, {"stem": -4}, "stem must be a whole number of at least 1, not -4"),
        ("small", DEFAULT_SPEC, {"heads": "x"}, "heads must be a whole number"),
        ("small", DEFAULT_SPEC, {"heads": 0}, "at least 1"),
        ("small", DEFAULT_SPEC, {"dropout": 2}, "dropout must be"),
        ("small", DEFAULT_SPEC, {"deep": 30}, "no multiple"),
        ("baseline10", PlateSpec(time_steps=24, rows=1), {"deep": 3}, "takes no network options"),
    ],
)
def test_wrong_requests(
    name: str, spec: PlateSpec, options: dict[str, Any] | None, words: str
) -> None:
    with pytest.raises(LprnetError, match=words):
        build_network(name, spec, options)
