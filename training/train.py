"""Train or fine-tune a recogniser.

Examples:
  lprnet train --config debug
  lprnet train --config small --train ../shared/data/train/* --val ../shared/data/val/*
  lprnet train --config finetune --train my_plates --init-from shipped --run runs/mine
  torchrun --nproc-per-node 4 -- lprnet_cli.py train --config small --train sets/* --run runs/four

torchrun needs the `--` before the script: it would take --run for one of its own options. Its
processes see different crops of the same sets, `optim.batch` each, and average their gradients.

A run's folder (--run) holds last.pt, best.pt, log.jsonl and TensorBoard events. Called again with
the same configuration, a run that was killed goes on where its last checkpoint stands; --init-from
counts for a new run only.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from lprnet.errors import LprnetError
from training.checkpoint import load_checkpoint, transfer_weights
from training.config import ConfigError, TrainConfig
from training.data.batches import Batches
from training.data.cache import CropCache
from training.data.pool import SyntheticPool, generator_revision
from training.data.records import Record, read_set
from training.data.relabel import read_exclusions
from training.distributed import World, join_world, leave_world
from training.evaluation.options import set_names
from training.journal import require_writable
from training.loop import Trainer
from training.memory import keep_freed_memory
from training.network import build_network
from training.shipped import named_weights
from training.validation import ValidationSet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `lprnet train`."""
    parser.add_argument(
        "--config", default="small", help="TOML file or a name in training/configs (default: small)"
    )
    parser.add_argument("--train", nargs="+", metavar="SET", help="labelled sets to learn from")
    parser.add_argument("--val", nargs="+", metavar="SET", help="labelled sets to measure on")
    parser.add_argument("--run", type=Path, help="folder of the run (default: runs/CONFIG)")
    parser.add_argument(
        "--init-from", metavar="CKPT", help="start from these weights; 'shipped' for our own"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override a configuration key, e.g. optim.steps=2000 (repeatable)",
    )
    parser.add_argument(
        "--stop-at", type=int, metavar="STEP", help="leave after this step; run again to go on"
    )


def run(args: argparse.Namespace) -> int:
    """Train; returns 0."""
    config = TrainConfig.load(args.config, args.overrides, train=args.train, validation=args.val)
    folder = args.run if args.run is not None else Path("runs") / Path(args.config).stem
    if config.optim.threads:
        torch.set_num_threads(config.optim.threads)
    keep_freed_memory()
    world = join_world()
    try:
        if world.leads:
            require_writable(folder)
        trainer = make_trainer(config, folder, world, args.init_from)
        resumed = trainer.resume()
        if world.leads:
            if config.data.train and config.data.real_share == 0:
                print(
                    f"note: --config {args.config} learns from drawn plates only; --train is "
                    "not used (--set data.real_share=0.5 mixes it in)"
                )
            origin = f"resumed at step {trainer.step}" if resumed else "new"
            print(f"run {folder} ({origin}): {config.optim.steps} steps on {world.device}")
            for note in resume_notes(trainer, args.init_from) if resumed else []:
                print(note)
        metrics = trainer.train(args.stop_at)
        if world.leads and metrics:
            mean = 100 * metrics["mean_exact_match"]
            print(f"mean exact match {mean:.2f} % at step {metrics['step']}; weights in {folder}")
    finally:
        leave_world()
    return 0


def resume_notes(trainer: Trainer, init_from: str | None) -> list[str]:
    """What a person may not expect of a run that goes on; empty when there is nothing to say."""
    notes = []
    if init_from is not None:
        notes.append(
            f"note: the run goes on from its own last.pt at step {trainer.step}; "
            "--init-from has no effect (name another --run to start from it)"
        )
    if trainer.step >= trainer.config.optim.steps:
        notes.append(
            f"note: the run is finished, all {trainer.config.optim.steps} steps were done before: "
            "nothing is learnt (name another --run to train again)"
        )
    return notes


def _silence(_: str) -> None:
    """Processes that do not lead."""


def usable(
    records: list[Record], config: TrainConfig, say: Callable[[str], None] = print
) -> list[Record]:
    """Records whose text the network can write at all; the others are counted and left out."""
    spec = config.spec()
    good = [
        r
        for r in records
        if r.text
        and not spec.charset.unknown(r.text)
        and spec.min_time_steps(r.text) <= spec.time_steps
    ]
    left_out = len(records) - len(good)
    if left_out:
        say(f"{left_out} of {len(records)} labels are empty, too long or outside the charset")
    if not good:
        raise LprnetError("no usable label in the training sets: see `lprnet data check`")
    return good


def wanted(
    records: list[Record], lists: list[Path], say: Callable[[str], None] = print
) -> list[Record]:
    """Records that no list of `lprnet data relabel` names.

    Raises:
        ConfigError: when a list names none of them: it belongs to other sets.
    """
    if not lists:
        return records
    places = [record.path.resolve() for record in records]
    left_out: set[Path] = set()
    for path in lists:
        named = read_exclusions(path)
        if named and named.isdisjoint(places):
            raise ConfigError(f"data.exclude: {path} names no crop of the training sets")
        left_out |= named
    kept = [r for r, place in zip(records, places, strict=True) if place not in left_out]
    say(f"{len(records) - len(kept)} of {len(records)} crops left out by data.exclude")
    return kept


def make_trainer(
    config: TrainConfig, folder: Path, world: World, init_from: str | None = None
) -> Trainer:
    """Put a run together from its configuration."""
    torch.manual_seed(config.seed)
    spec = config.spec()
    data = config.data
    pool = None
    if data.real_share < 1:
        pool = SyntheticPool(data, spec.charset, config.seed, generator_revision())
    records: list[Record] = []
    crops = None
    if data.real_share > 0:
        found = [r for s in data.train for r in read_set(Path(s))]
        say = print if world.leads else _silence
        records = usable(wanted(found, [Path(p) for p in data.exclude], say), config, say)
        crops = CropCache(records, Path(data.cache))
    roots = [Path(s) for s in data.validation]
    validation = [ValidationSet(r, spec, n) for r, n in zip(roots, set_names(roots), strict=True)]
    network = build_network(config.network.name, spec, config.network.options)
    if init_from is not None:
        source = load_checkpoint(named_weights(init_from))
        if source.network_name != config.network.name:
            raise ConfigError(
                f"{init_from} holds a {source.network_name}, the configuration a "
                f"{config.network.name}"
            )
        new = transfer_weights(source, network, spec)
        if new and world.leads:
            print(f"characters that the weights did not know: {' '.join(new)}")
    batches = Batches(config, spec, records, crops, pool, rank=world.rank)
    return Trainer(config, network, batches, pool, validation, folder, world)
