"""A real, tiny training: it learns, resumes exactly after a kill, and transfers its weights."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lprnet.charset import Charset
from lprnet.image import to_crop
from lprnet.plate_spec import PlateSpec
from training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint, transfer_weights
from training.losses import ctc_loss
from training.network import build_network
from training.synthetic import PlateGenerator
from training.validation import read_crops

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-5
"""Largest difference of a weight between an interrupted and an uninterrupted run."""


def train(run: Path, cache: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "lprnet_cli.py", "train", "--config", "debug", "--run", str(run)]
    settings = ["--set", f"data.cache='{cache}'", "--set", "optim.threads=1"]
    return subprocess.Popen(
        [*command, *settings, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[bytes]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()[-2000:]
    return out.decode()


def losses(run: Path, name: str = "ctc") -> dict[int, float]:
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {e["step"]: e[name] for e in events if e["event"] == "step"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    finish(train(run, cache, "--set", "optim.steps=100"))
    return run


def test_the_loss_falls(trained: Path) -> None:
    # One batch's loss is too noisy to compare two steps of so short a run: compare with guessing.
    # CTC still stands on its plateau of blanks (the next test goes beyond it).
    guessing = math.log(PlateSpec().classes)
    assert losses(trained, "frame")[100] < guessing / 2


def test_a_few_plates_can_be_learnt_by_heart() -> None:
    torch.manual_seed(3)
    spec = PlateSpec()
    generator = PlateGenerator(regions=["DE", "GB"], photography=False)
    plates = [generator.sample(np.random.default_rng(i)) for i in range(6)]
    crops = np.stack([to_crop(p.image) for p in plates])
    images = torch.from_numpy(crops).float() / 255
    ids = [spec.encode(p.text) for p in plates]
    targets = torch.from_numpy(np.concatenate(ids)).long()
    lengths = torch.tensor([len(i) for i in ids])
    options = {"stem": 8, "middle": 16, "deep": 32, "heads": 4, "dropout": 0.0}
    network = build_network("small", spec, options).train()
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3)
    for _ in range(400):
        loss = ctc_loss(network(images), targets, lengths, spec.blank)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.02:
            break
    read, confidence = read_crops(network.eval(), crops, spec, torch.device("cpu"))
    assert read == [p.text for p in plates]
    assert confidence.min() > 0.5


def test_kill_and_resume_gives_the_same_weights(trained: Path, cache: Path, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    process = train(run, cache, "--set", "optim.steps=100")
    deadline = time.monotonic() + 300
    while not (run / "last.pt").is_file():  # the first checkpoint is at step 10
        assert process.poll() is None, process.communicate()[1].decode()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)  # into the middle of the steps between two checkpoints
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    stopped_at = load_checkpoint(run / "last.pt").step
    assert stopped_at < 100, "the run ended before it could be killed"

    out = finish(train(run, cache, "--set", "optim.steps=100"))
    assert f"resumed at step {stopped_at}" in out
    whole, resumed = load_checkpoint(trained / "last.pt"), load_checkpoint(run / "last.pt")
    assert resumed.step == whole.step == 100
    for name, tensor in whole.network.state_dict().items():
        other = resumed.network.state_dict()[name]
        assert torch.allclose(tensor, other, rtol=0, atol=TOLERANCE), name
    assert losses(run)[100] == pytest.approx(losses(trained)[100], rel=1e-4)


def test_resume_refuses_another_configuration(trained: Path, cache: Path) -> None:
    process = train(trained, cache, "--set", "optim.steps=101")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert b"another configuration" in err
    assert b"Traceback" not in err


def test_checkpoint_knows_itself(trained: Path) -> None:
    saved = load_checkpoint(trained / "last.pt")
    assert saved.network_name == "small"
    assert saved.spec == PlateSpec()
    assert saved.config["optim"]["steps"] == 100
    assert not saved.network.training
    best = load_checkpoint(trained / "best.pt")  # for shipping: nothing but weights and papers
    assert best.resume == {}
    assert (trained / "best.pt").stat().st_size < (trained / "last.pt").stat().st_size / 2


def test_transfer_to_another_charset(trained: Path) -> None:
    saved = load_checkpoint(trained / "last.pt")
    spec = PlateSpec(charset=Charset.from_text("XBA90"), blank=0)
    target = build_network("small", spec, saved.options)
    assert transfer_weights(saved, target, spec) == []
    generator = PlateGenerator(regions=["DE"], photography=False)
    plates = [generator.sample(np.random.default_rng(i)) for i in range(8)]
    crops = np.stack([to_crop(p.image) for p in plates])
    old = saved.network(torch.from_numpy(crops).float() / 255)
    new = target.eval()(torch.from_numpy(crops).float() / 255)
    for character in ["X", "B", "A", "9", "0", ""]:
        mine = list(spec.class_characters).index(character)
        theirs = list(saved.spec.class_characters).index(character)
        assert torch.allclose(new[..., mine], old[..., theirs], atol=1e-5)

    wider = PlateSpec(charset=Charset.from_text("AB+"))
    assert transfer_weights(saved, build_network("small", wider, saved.options), wider) == ["+"]
    with pytest.raises(CheckpointError, match="same network options"):
        transfer_weights(saved, build_network("small", spec), spec)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04" + bytes(64)])
def test_damaged_checkpoints(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bad\.pt"):
        load_checkpoint(path)


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(tmp_path / "none.pt")


def test_save_is_complete(trained: Path, tmp_path: Path) -> None:
    saved = load_checkpoint(trained / "last.pt")
    saved.temperature = 1.25
    save_checkpoint(saved, tmp_path / "again.pt")
    again = load_checkpoint(tmp_path / "again.pt")
    assert again.temperature == 1.25
    crops = np.random.default_rng(0).integers(0, 256, (5, 3, 48, 96), dtype=np.uint8)
    device = torch.device("cpu")
    assert (
        read_crops(saved.network, crops, saved.spec, device)[0]
        == (read_crops(again.network, crops, again.spec, device)[0])
    )
    assert [p.name for p in tmp_path.iterdir()] == ["again.pt"]
