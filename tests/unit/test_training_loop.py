"""Corners of the training loop: frozen parts, damaged statistics, plates on disk in time."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from training.config import ConfigError, TrainConfig
from training.distributed import World
from training.ema import WeightAverage
from training.loop import Trainer, TrainingError
from training.train import make_trainer

CPU = World(0, 1, torch.device("cpu"))


def trainer(folder: Path, *overrides: str, validation: list[str] | None = None) -> Trainer:
    """The debug configuration, made even smaller."""
    small = [
        f"data.cache='{folder / 'cache'}'",
        "data.synthetic_plates=20",
        "optim.batch=4",
        "optim.amp=off",
        "network.options={ stem = 8, middle = 8, deep = 16, heads = 4 }",
    ]
    config = TrainConfig.load("debug", [*small, *overrides], validation=validation)
    return make_trainer(config, folder / "run", CPU)


def test_frozen_parts_keep_weights_and_statistics(tmp_path: Path) -> None:
    made = trainer(tmp_path, "optim.freeze=['trunk']", "optim.steps=3")
    before = copy.deepcopy(made.network.state_dict())
    made.train()
    after = made.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("trunk") for name in changed)
    assert any(name.startswith("context") for name in changed)


def test_freezing_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\['body'\] names no parameter; parts are .*trunk"):
        trainer(tmp_path, "optim.freeze=['trunk', 'body']")


def test_a_step_that_overflows_leaves_no_damage(tmp_path: Path) -> None:
    """One batch whose activations overflow must not stay in the normalisation statistics."""
    made = trainer(tmp_path, "optim.steps=2")
    assert made.pool is not None
    made.pool.ensure(0)
    model = made._parallel_model()
    weights = copy.deepcopy(made.network.state_dict())
    first = next(p for p in made.network.parameters() if p.ndim > 1)
    with torch.no_grad():
        first.mul_(1e30).mul_(1e30)  # infinite: as an optimiser that ran away would leave it
    assert made._learn(model, made.batches[0]) is None
    with torch.no_grad():
        first.copy_(weights[next(n for n, p in made.network.named_parameters() if p is first)])
    for name, tensor in made.network.state_dict().items():
        assert torch.isfinite(tensor).all(), name
    assert made._learn(model, made.batches[1]) is not None
    for name, tensor in made.average.network.state_dict().items():
        assert torch.isfinite(tensor).all(), name


def test_heal_touches_damaged_statistics_only() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2))
    average = WeightAverage(network, 0.9)
    first, second = network[0], network[1]
    assert isinstance(first, nn.BatchNorm2d)
    assert isinstance(second, nn.BatchNorm2d)
    assert first.running_mean is not None
    assert second.running_mean is not None
    first.running_mean.fill_(float("nan"))
    second.running_mean.fill_(3.0)
    average.heal(network)
    assert first.running_mean.tolist() == [0.0, 0.0]
    assert second.running_mean.tolist() == [3.0, 3.0]


def test_a_run_that_starts_just_before_the_next_plates(tmp_path: Path) -> None:
    """Data processes ask ahead at once; the next generation must be there before they start."""
    options = ["optim.steps=8", "data.synthetic_refresh_steps=6", "optim.workers=1"]
    made = trainer(tmp_path, *options)
    made.step = 5  # resumed here, with an empty cache
    assert made.pool is not None
    made._loader(8)
    for step in range(5, 8):
        made.pool.generations(step)  # raises where a generation is not on disk


def test_resume_knows_configurations_of_an_older_release(tmp_path: Path) -> None:
    made = trainer(tmp_path, "optim.steps=4")
    made.train(stop_at=2)
    path = made.run / "last.pt"
    values = torch.load(path, weights_only=True)
    del values["config"]["data"]["exclude"]  # a key that came later
    torch.save(values, path)
    again = trainer(tmp_path, "optim.steps=4")
    assert again.resume()
    assert again.step == 2
    other = trainer(tmp_path, "optim.steps=4", "optim.clip_norm=1.0")
    with pytest.raises(TrainingError, match="another configuration"):
        other.resume()


def test_validation_sets_of_one_name_are_told_apart(tmp_path: Path) -> None:
    import cv2
    import numpy as np

    roots = []
    for parent in ("eu", "us"):
        root = tmp_path / parent / "val"
        root.mkdir(parents=True)
        assert cv2.imwrite(str(root / "AB12.png"), np.zeros((48, 96, 3), np.uint8))
        roots.append(str(root))
    made = trainer(tmp_path, validation=roots)
    names = [chosen.name for chosen in made.validation]
    assert len(set(names)) == 2
    assert all(parent in name for parent, name in zip(("eu", "us"), names, strict=True))
