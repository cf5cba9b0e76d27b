"""Small readers with random weights for the tests of build/, and where build/ is found."""

from __future__ import annotations

import functools
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from lprnet.plate_spec import PlateSpec
from training.network import build_network, network_spec

if TYPE_CHECKING:
    from labelled import LabelledCrops

BUILD = Path(__file__).resolve().parents[2] / "build"
if str(BUILD) not in sys.path:  # build/ is no package: its scripts are found by path
    sys.path.insert(0, str(BUILD))


def random_reader(name: str = "small", seed: int = 0) -> tuple[nn.Module, PlateSpec]:
    """A network of the family with random weights and random BatchNorm statistics.

    The head is stretched, so that the answers are clear and differ from picture to picture.
    """
    torch.manual_seed(seed)
    steps, rows = network_spec(name)
    spec = PlateSpec(time_steps=steps, rows=rows)
    network = build_network(name, spec)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    network.eval()
    _spread(network, spec)
    return network, spec


def _spread(network: nn.Module, spec: PlateSpec) -> None:
    """Centre and stretch the logits over some pictures through the head's weights."""
    from runtimes import trial_pictures  # found by the path above

    pictures = torch.from_numpy(trial_pictures(spec, 8, seed=1)).float() / 255
    with torch.no_grad():
        logits = network(pictures)
        mean, scale = logits.mean(dim=(0, 1)), 3 / logits.std(dim=(0, 1)).mean()
        head = network.get_submodule("head")
        weight, bias = head.get_parameter("weight"), head.get_parameter("bias")
        weight.mul_(scale)
        bias.copy_((bias - mean) * scale)


@functools.cache
def exported(name: str = "small", io: str = "lprnet", precision: str = "fp32") -> Path:
    """ONNX of `random_reader(name)`, temperature 1.3; made once for all tests of a run."""
    import export_onnx  # found by the path above
    import quantize

    path = Path(_FOLDER.name) / f"{name}_{io}_{precision}.onnx"
    if precision == "int8":
        source = exported(name, io)
        data, facts = quantize.quantize(source.read_bytes(), source.name, pictures(24))
        export_onnx.write_model(path, data, facts)
        return path
    network, spec = random_reader(name)
    export_onnx.export(network, spec, path, network_name=name, io=io, temperature=1.3)
    return path


def pictures(count: int, seed: int = 7) -> LabelledCrops:
    """Pictures with labels that no reader gives, for calibration."""
    from labelled import LabelledCrops  # found by the path above
    from runtimes import trial_pictures

    crops = trial_pictures(PlateSpec(), count, seed)
    names = tuple(f"{seed}-{i}" for i in range(count))
    return LabelledCrops(f"trial {seed}", crops, names, names)


_FOLDER = tempfile.TemporaryDirectory(prefix="lprnet-test-")
