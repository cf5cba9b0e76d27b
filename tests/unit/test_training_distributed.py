"""Two processes on the CPU (gloo, torchrun) train one network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from training.checkpoint import load_checkpoint
from training.config import TrainConfig
from training.data.batches import Batches
from training.distributed import World
from training.losses import ctc_loss, frame_loss
from training.schedule import frame_loss_weight, learning_rate
from training.synthetic import PlateGenerator
from training.train import make_trainer

HERE = Path(__file__).resolve().parent
STEPS = 12
TOLERANCE = 1e-5
"""Largest difference of a weight between two processes and one that does the work of both: sums
of gradients in another order, through `STEPS` steps of AdamW."""

State = dict[str, torch.Tensor]


def settings(cache: Path) -> list[str]:
    """Overrides of the debug configuration."""
    return [
        f"data.cache='{cache}'",
        "data.synthetic_plates=60",
        f"optim.steps={STEPS}",
        "optim.batch=6",
        "optim.amp=off",
        "network.options={ stem = 8, middle = 8, deep = 16, heads = 4, dropout = 0.0 }",
        "log.evaluate_every=4",
        "log.checkpoint_every=2",
    ]


def torchrun(run: Path, weights: Path, cache: Path, *options: str) -> str:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command.append("--")  # else torchrun takes --run for an abbreviation of its own --run-path
    command += [str(HERE / "distributed_worker.py"), "--run", str(run), "--weights", str(weights)]
    for override in settings(cache):
        command += ["--set", override]
    process = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=600, check=False
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set of drawn plates named after their text."""
    root = tmp_path_factory.mktemp("plates")
    generator = PlateGenerator(regions=["DE"], photography=False)
    for seed in range(6):
        plate = generator.sample(np.random.default_rng(seed))
        picture = cv2.cvtColor(plate.image, cv2.COLOR_RGB2BGR)
        assert cv2.imwrite(str(root / f"{plate.text}.png"), picture)
    return root


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path, plates: Path) -> tuple[Path, Path]:
    """An uninterrupted run of two processes: its folder and the folder of both weights."""
    folder = tmp_path_factory.mktemp("whole")
    torchrun(folder / "run", folder / "weights", cache, "--val", str(plates))
    return folder / "run", folder / "weights"


def states(weights: Path) -> tuple[State, State]:
    first, second = (torch.load(weights / f"rank{r}.pt", weights_only=True) for r in range(2))
    return first, second


def one_process(cache: Path, plates: Path, run: Path) -> State:
    """The same training without torchrun: the gradients of both batches are averaged by hand."""
    config = TrainConfig.load("debug", settings(cache), validation=[str(plates)])
    trainer = make_trainer(config, run, World(0, 1, torch.device("cpu")))
    assert trainer.pool is not None
    trainer.pool.ensure(0)
    network, optim, spec = trainer.network.train(), config.optim, trainer.spec
    second = Batches(config, spec, [], None, trainer.pool, rank=1)
    parameters = list(network.parameters())
    for step in range(STEPS):
        for group in trainer.optimizer.param_groups:
            group["lr"] = learning_rate(optim, step)
        gradients = []
        # Normalisation statistics are rank 0's: its batch comes last.
        for batches in (second, trainer.batches):
            statistics = {name: b.clone() for name, b in network.named_buffers()}
            batch = batches[step]
            images = batch.images.to(memory_format=torch.channels_last)
            logits = network(images.float() / 255)
            loss = ctc_loss(logits, batch.targets, batch.lengths, spec.blank)
            loss = loss + frame_loss_weight(optim, step) * frame_loss(logits, batch.frames, 0.0)
            gradients.append(torch.autograd.grad(loss, parameters))
            if batches is second:
                for name, buffer in network.named_buffers():
                    buffer.copy_(statistics[name])
        for parameter, *pair in zip(parameters, *gradients, strict=True):
            parameter.grad = (pair[0] + pair[1]) / 2
        nn.utils.clip_grad_norm_(parameters, optim.clip_norm)
        trainer.optimizer.step()
    made: State = network.state_dict()
    return made


def parameters_of(state: State) -> State:
    return {name: t for name, t in state.items() if "running_" not in name and "num_" not in name}


def test_all_processes_end_with_the_same_parameters(whole: tuple[Path, Path]) -> None:
    first, second = map(parameters_of, states(whole[1]))
    assert len(first) > 20
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_two_processes_do_what_one_does_with_both_batches(
    whole: tuple[Path, Path], cache: Path, plates: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    expected = one_process(cache, plates, tmp_path / "one")
    got, _ = states(whole[1])
    for name, tensor in expected.items():
        assert torch.allclose(tensor, got[name], rtol=0, atol=TOLERANCE), name


def test_only_the_leader_writes(whole: tuple[Path, Path]) -> None:
    run, _ = whole
    assert {path.name for path in run.iterdir()} == {"best.pt", "last.pt", "log.jsonl"}
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events].count("start") == 1
    assert [e["step"] for e in events if e["event"] == "evaluation"] == [4, 8, 12]


def test_a_run_of_two_processes_resumes(
    whole: tuple[Path, Path], cache: Path, plates: Path, tmp_path: Path
) -> None:
    run, weights, val = tmp_path / "run", tmp_path / "weights", ["--val", str(plates)]
    torchrun(run, weights, cache, *val, "--stop-at", "6")
    assert load_checkpoint(run / "last.pt").step == 6
    torchrun(run, weights, cache, *val)
    (expected, _), (got, _) = states(whole[1]), states(weights)
    for name, tensor in expected.items():
        assert torch.allclose(tensor, got[name], rtol=0, atol=TOLERANCE), name


def test_processes_stop_together(cache: Path, plates: Path, tmp_path: Path) -> None:
    """Their own scores may differ; the leader's decide, else one would wait for ever."""
    out = torchrun(
        tmp_path / "run", tmp_path / "weights", cache, "--val", str(plates),
        "--odd-one-out", "--set", "optim.early_stop_evaluations=2",
    )  # fmt: skip
    ends = {line for line in out.splitlines() if "left at step" in line}
    assert ends == {f"rank {rank} left at step 12" for rank in range(2)}
