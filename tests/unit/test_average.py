"""Averaging checkpoints: exact means, and nothing of this machine in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lprnet.charset import Charset
from lprnet.plate_spec import DEFAULT_SPEC, PlateSpec
from lprnet_cli import main
from training.average import average
from training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from training.network import build_network

OPTIONS = {"stem": 8, "middle": 16, "deep": 16}


def checkpoint(seed: int, spec: PlateSpec = DEFAULT_SPEC, **options: int) -> Checkpoint:
    torch.manual_seed(seed)
    network = build_network("small", spec, {**OPTIONS, **options})
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.dtype.is_floating_point:
                tensor.add_(torch.rand_like(tensor))
            else:
                tensor.fill_(seed)
    data: dict[str, Any] = {"train": ["/home/somebody/plates/train/eu"], "exclude": ["wrong.tsv"]}
    data["cache"] = "/home/somebody/of/cache"
    return Checkpoint(
        network=network.eval(),
        network_name="small",
        options={**OPTIONS, **options},
        spec=spec,
        temperature=2.0,
        metrics={"exact_match": {"eu": 0.5}},
        config={"seed": seed, "data": data},
        resume={"optimiser": torch.zeros(1000)},
    )


@pytest.mark.parametrize("shares", [(1.0, 1.0), (1.0, 3.0)])
def test_the_mean_is_the_mean_of_every_tensor(shares: tuple[float, float]) -> None:
    one, other = checkpoint(1), checkpoint(2)
    mean = average([one, other], shares).network.state_dict()
    weight = shares[0] / sum(shares)
    for name, first in one.network.state_dict().items():
        second = other.network.state_dict()[name]
        if first.dtype.is_floating_point:
            torch.testing.assert_close(mean[name], weight * first + (1 - weight) * second)
        else:
            assert torch.equal(mean[name], second)
    assert not torch.equal(mean["head.weight"], other.network.state_dict()["head.weight"])


def test_what_is_averaged_stays_as_it_was() -> None:
    one, other = checkpoint(1), checkpoint(2)
    average([one, other], [1, 1])
    fresh = checkpoint(2).network.state_dict()
    assert all(torch.equal(t, fresh[n]) for n, t in other.network.state_dict().items())


def test_a_mean_has_no_figures_of_its_parts() -> None:
    made = average([checkpoint(1), checkpoint(2)], [1, 1])
    assert (made.metrics, made.temperature, made.resume) == ({}, 1.0, {})


def test_one_alone_is_stripped(tmp_path: Path) -> None:
    whole, out = tmp_path / "last.pt", tmp_path / "small.pt"
    save_checkpoint(checkpoint(1), whole)
    assert main(["average", str(whole), "--out", str(out)]) == 0
    made, before = load_checkpoint(out), load_checkpoint(whole)
    state = made.network.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in before.network.state_dict().items())
    assert made.metrics == before.metrics
    assert made.resume == {}
    assert made.config["data"]["train"] == ["train/eu"]
    assert made.config["data"]["cache"] == "of/cache"
    assert b"somebody" not in out.read_bytes()


@pytest.mark.parametrize(
    ("parts", "shares", "words"),
    [
        ([checkpoint(1), checkpoint(2, stem=16)], [1, 1], "other tensors"),
        (
            [checkpoint(1), checkpoint(2, PlateSpec(charset=Charset("ABC")))],
            [1, 1],
            "another plate spec",
        ),
        ([checkpoint(1), checkpoint(2)], [1], "as many shares"),
        ([checkpoint(1), checkpoint(2)], [1, 0], "above 0"),
        ([checkpoint(1), checkpoint(2)], [1, float("nan")], "above 0"),
    ],
)
def test_what_cannot_be_averaged(parts: list[Checkpoint], shares: list[float], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        average(parts, shares)


def test_errors_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["average", str(tmp_path / "none.pt"), "--out", str(tmp_path / "o.pt")]) == 2
    assert "no checkpoint at" in capsys.readouterr().err
    assert main(["average", "shipped", "--out", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err
