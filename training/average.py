"""Average checkpoints of one network into one small file, or strip one for publication.

Examples:
  lprnet average runs/a/last.pt runs/b/last.pt --out mean.pt
  lprnet average shipped runs/mine/last.pt --shares 0.7 0.3 --out mean.pt
  lprnet average runs/a/last.pt --out small.pt

Runs that start from the same weights and end apart can be averaged weight by weight: the mean
often reads better than each of them, at no cost when it serves (Wortsman et al. 2022, "Model
soups"). A mean of your fine-tuned weights and those they started from forgets less of the plates of
before. Runs from different random starts cannot be averaged so: evaluate the result.

The file holds no optimiser state (training can start from it, not go on with it), no temperature
(fit it with `lprnet evaluate --fit-temperature`), and of your machine's paths the last two parts.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, Final

import torch

from lprnet.errors import LprnetError
from lprnet.outputs import refuse_to_overwrite
from training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from training.shipped import named_weights

PATH_LISTS: Final = ("train", "validation", "exclude")
"""Of the configuration's table `data`."""
KEPT_PARTS: Final = 2
"""Of a path: `train/eu` tells a reader enough."""


def average(checkpoints: Sequence[Checkpoint], shares: Sequence[float]) -> Checkpoint:
    """Weighted mean of weights and normalisation statistics; papers of the last checkpoint.

    Args:
        checkpoints: at least one; all of one network and one plate spec.
        shares: as many, above 0; they are divided by their sum.

    Raises:
        CheckpointError: when the checkpoints do not belong together or a share is no share.
    """
    if len(shares) != len(checkpoints):
        raise CheckpointError(f"{len(checkpoints)} checkpoints need as many shares: {len(shares)}")
    if not all(math.isfinite(share) and share > 0 for share in shares):
        raise CheckpointError(f"shares must be numbers above 0: {list(shares)}")
    last = checkpoints[-1]
    states = [checkpoint.network.state_dict() for checkpoint in checkpoints]
    for number, (checkpoint, state) in enumerate(zip(checkpoints, states, strict=True), 1):
        if checkpoint.spec.digest != last.spec.digest:
            raise CheckpointError(f"checkpoint {number} has another plate spec than the last one")
        if _shapes(state) != _shapes(states[-1]):
            raise CheckpointError(
                f"checkpoint {number} is a {checkpoint.network_name} of other tensors than the "
                f"last one, a {last.network_name}"
            )
    total = sum(shares)
    network = copy.deepcopy(last.network)
    mean = network.state_dict()
    for name, tensor in mean.items():
        if tensor.dtype.is_floating_point:  # not the counters of normalisation layers
            parts = zip(states, shares, strict=True)
            # In FP64: the mean of a checkpoint with itself is itself.
            exact = sum(state[name].double() * (share / total) for state, share in parts)
            tensor.copy_(torch.as_tensor(exact))
    alone = len(checkpoints) == 1
    return Checkpoint(
        network=network,
        network_name=last.network_name,
        options=last.options,
        spec=last.spec,
        revision=last.revision,
        metrics=last.metrics if alone else {},  # a mean has not been evaluated
        config=_without_paths(last.config),
        step=last.step,
    )


def _shapes(state: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _without_paths(config: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(config)
    data = made.get("data", {})
    for name in PATH_LISTS:
        data[name] = [_short(path) for path in data.get(name, [])]
    if "cache" in data:
        data["cache"] = _short(data["cache"])
    return made


def _short(path: str) -> str:
    return str(PurePath(*PurePath(path).parts[-KEPT_PARTS:]))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `lprnet average`."""
    parser.add_argument(
        "checkpoints",
        nargs="+",
        type=named_weights,
        metavar="CKPT",
        help="weights to average; 'shipped' for our own",
    )
    parser.add_argument(
        "--shares",
        nargs="+",
        type=float,
        metavar="S",
        help="how much of each (default: the same of all)",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="where to write")


def run(args: argparse.Namespace) -> int:
    """Run the verb; 0 when the file is written."""
    if args.out.is_dir():
        raise LprnetError(f"{args.out} is a folder: give --out a file")
    refuse_to_overwrite(args.out, *args.checkpoints)
    checkpoints = [load_checkpoint(path) for path in args.checkpoints]
    save_checkpoint(average(checkpoints, args.shares or [1.0] * len(checkpoints)), args.out)
    print(
        f"{args.out}: {len(checkpoints)} checkpoint(s), {args.out.stat().st_size / 1e6:.1f} MB; "
        "now `lprnet evaluate SET... --weights FILE --fit-temperature`"
    )
    return 0
