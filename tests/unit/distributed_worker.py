"""One process of a training under torchrun, for test_training_distributed.py.

Trains as `lprnet train` does and leaves its own weights in `rank0.pt`, `rank1.pt`, ...
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from training.config import TrainConfig
from training.distributed import join_world, leave_world
from training.train import make_trainer


def main() -> None:
    """Train, then save this process's raw weights."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--stop-at", type=int)
    parser.add_argument("--odd-one-out", action="store_true", help="rank 1 never sees a best score")
    parser.add_argument("--val", nargs="*", default=[])
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    torch.set_num_threads(1)
    world = join_world()
    config = TrainConfig.load("debug", args.set, validation=args.val)
    trainer = make_trainer(config, args.run, world)
    trainer.resume()
    if args.odd_one_out and world.rank == 1:
        trainer.best = 2.0
    trainer.train(args.stop_at)
    args.weights.mkdir(parents=True, exist_ok=True)
    torch.save(trainer.network.state_dict(), args.weights / f"rank{world.rank}.pt")
    print(f"rank {world.rank} left at step {trainer.step}", flush=True)
    leave_world()


if __name__ == "__main__":
    main()
