"""Corners of the training loop: frozen parts, damaged statistics, plates on disk in time."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import torch
from painted_sets import write_tao
from torch import nn

from lprnet_cli import main
from training.config import ConfigError, TrainConfig
from training.data.cache import CacheError
from training.data.records import DatasetError
from training.distributed import World
from training.ema import WeightAverage
from training.journal import Journal, JournalError
from training.loop import Trainer, TrainingError
from training.train import make_trainer

CPU = World(0, 1, torch.device("cpu"))


def small(folder: Path) -> list[str]:
    """Overrides that make the debug configuration even smaller."""
    return [
        f"data.cache='{folder / 'cache'}'",
        "data.synthetic_plates=20",
        "optim.batch=4",
        "optim.amp=off",
        "network.options={ stem = 8, middle = 8, deep = 16, heads = 4 }",
    ]


def trainer(folder: Path, *overrides: str, validation: list[str] | None = None) -> Trainer:
    """A trainer of the `small` configuration."""
    config = TrainConfig.load("debug", [*small(folder), *overrides], validation=validation)
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


def test_a_run_that_goes_on_says_that_it_starts_from_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen to fail: --init-from did nothing, without a word."""
    first = trainer(tmp_path, "optim.steps=4")
    first.train(stop_at=2)
    weights = tmp_path / "other.pt"
    shutil.copy(first.run / "last.pt", weights)

    def again() -> str:
        arguments = ["--run", str(first.run), "--init-from", str(weights)]
        for override in [*small(tmp_path), "optim.steps=4"]:
            arguments += ["--set", override]
        assert main(["train", "--config", "debug", *arguments]) == 0
        return capsys.readouterr().out

    out = again()
    assert "own last.pt at step 2; --init-from has no effect" in out
    assert "finished" not in out
    assert "the run is finished, all 4 steps were done before" in again()


def test_no_plates_are_drawn_for_a_run_that_is_finished(tmp_path: Path) -> None:
    made = trainer(tmp_path, "optim.steps=4")
    made.step = 4
    made.train()
    assert not (tmp_path / "cache").exists()


def test_a_row_of_a_manifest_without_its_picture(tmp_path: Path) -> None:
    """Seen to fail: training ended in a traceback."""
    root = tmp_path / "set"
    root.mkdir()
    (root / "manifest.tsv").write_text("file\ttext\nlost.png\tA1\n")
    config = TrainConfig.load("debug", [*small(tmp_path), "data.real_share=1.0"], train=[str(root)])
    with pytest.raises(DatasetError, match=r"lost\.png: No such file or directory; `lprnet data"):
        make_trainer(config, tmp_path / "run", CPU)


@pytest.mark.parametrize("below", ["", "deeper/run"])
def test_a_run_that_is_a_file(
    below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen to fail: a traceback."""
    file = tmp_path / "file"
    file.touch()
    arguments = ["--config", "debug", "--run", str(file / below)]
    assert main(["train", *arguments, "--set", f"data.cache={tmp_path / 'cache'}"]) == 2
    assert f"{file} is a file: name another --run" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_a_journal_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(JournalError, match="Is a directory: name another --run"):
        Journal(tmp_path, enabled=True, tensorboard=False)


@pytest.mark.parametrize("real_share", [0.0, 1.0])
def test_a_cache_that_cannot_be_written(real_share: float, tmp_path: Path) -> None:
    """Seen to fail: both kinds of pictures ended in a traceback."""
    (tmp_path / "cache").touch()
    root = write_tao(tmp_path / "set", {"a": ("A1", "A1")})
    overrides = [*small(tmp_path), f"data.real_share={real_share}", "optim.steps=1"]
    config = TrainConfig.load("debug", overrides, train=[str(root)])
    with pytest.raises(CacheError, match=r"cannot use the cache .*--set data\.cache=DIR"):
        make_trainer(config, tmp_path / "run", CPU).train()
