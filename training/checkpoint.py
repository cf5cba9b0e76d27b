"""Checkpoints: weights with all that is needed to know, export and go on with them.

A file holds plain values and tensors only and is read with `weights_only=True`, so that a
checkpoint from outside cannot run code.
"""

from __future__ import annotations

import os
import pickle
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lprnet import __version__
from lprnet.errors import LprnetError
from lprnet.plate_spec import PlateSpec
from training.network import build_network

FORMAT = 1


class CheckpointError(LprnetError):
    """A file that is no checkpoint of this project, or does not fit what it is loaded into."""


@dataclass
class Checkpoint:
    """Weights ready for use and their papers.

    Attributes:
        network: eval mode; FP32 [N, 3, 48, 96] RGB in 0..1 -> logits [N, T, classes].
        network_name: one of `training.network.NETWORKS`.
        options: network options, see `build_network`.
        spec: charset, blank, time steps.
        temperature: logits are divided by it before the softmax, for calibrated confidence.
        revision: git revision of the code that trained it; "" outside a checkout.
        metrics: figures of the last evaluation.
        config: the training configuration as plain dictionaries.
        step: optimiser steps done.
        resume: optimiser, raw weights and generator state; empty in a slim checkpoint.
    """

    network: nn.Module
    network_name: str
    options: dict[str, Any]
    spec: PlateSpec
    temperature: float = 1.0
    revision: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    resume: dict[str, Any] = field(default_factory=dict)


def code_revision() -> str:
    """Git revision of this checkout with "+" when it is edited; "" when there is none."""
    folder = Path(__file__).parent
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write atomically: a kill leaves the old file or the new one, never half of one."""
    weights = checkpoint.network.state_dict()
    values = {
        "format": FORMAT,
        "version": __version__,
        "network": checkpoint.network_name,
        "options": checkpoint.options,
        "spec": checkpoint.spec.to_json(),
        "temperature": checkpoint.temperature,
        "revision": checkpoint.revision,
        "metrics": checkpoint.metrics,
        "config": checkpoint.config,
        "step": checkpoint.step,
        "weights": {name: tensor.detach().cpu() for name, tensor in weights.items()},
        "resume": checkpoint.resume,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # A fixed name: a kill leaves one such file at most.
    staged = path.with_name(f".{path.name}.tmp")
    with staged.open("wb") as file:
        torch.save(values, file)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and build its network in eval mode on the CPU.

    Raises:
        CheckpointError: when the file is missing, damaged or of another format.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}") from error
    except (PermissionError, IsADirectoryError) as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    except (
        *(RuntimeError, pickle.UnpicklingError, EOFError, OSError),
        *(LookupError, ValueError, TypeError, AttributeError),
    ) as error:  # whatever foreign bytes lead PyTorch to; its advice is not for our users
        raise CheckpointError(f"{path} is no checkpoint of this program, or damaged") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of format {FORMAT}")
    spec = PlateSpec.from_json(values["spec"])
    network = build_network(values["network"], spec, values["options"])
    try:
        network.load_state_dict(values["weights"])
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit its own network: {error}") from error
    return Checkpoint(
        network=network.eval(),
        network_name=values["network"],
        options=values["options"],
        spec=spec,
        temperature=values["temperature"],
        revision=values["revision"],
        metrics=values["metrics"],
        config=values["config"],
        step=values["step"],
        resume=values["resume"],
    )


def transfer_weights(source: Checkpoint, target: nn.Module, spec: PlateSpec) -> list[str]:
    """Start `target` from another checkpoint; the head is remapped character by character.

    Characters that the source does not know keep their fresh weights. Every other tensor must
    fit.

    Args:
        source: what to start from.
        target: a network of the same name and options, perhaps of another charset.
        spec: the target's spec.

    Returns:
        Characters of the target that the source did not know.

    Raises:
        CheckpointError: when a tensor other than the head's does not fit.
    """
    weights = source.network.state_dict()
    wanted = target.state_dict()
    old = {c: i for i, c in enumerate(source.spec.class_characters)}
    new = list(spec.class_characters)
    pairs = [(i, old[c]) for i, c in enumerate(new) if c in old]
    merged: dict[str, Tensor] = {}
    for name, tensor in wanted.items():
        if name not in weights:
            raise CheckpointError(f"the checkpoint has no {name}: it is of another network")
        if name.startswith("head."):
            remapped = tensor.clone()
            for to, origin in pairs:
                remapped[to] = weights[name][origin]
            merged[name] = remapped
        elif tensor.shape != weights[name].shape:
            raise CheckpointError(
                f"{name} is {list(weights[name].shape)} in the checkpoint and "
                f"{list(tensor.shape)} here: give the same network options"
            )
        else:
            merged[name] = weights[name]
    target.load_state_dict(merged)
    return [c for c in new if c not in old]
