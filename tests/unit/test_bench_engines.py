"""The comparison of engines: counts, turns, and a run on a few pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from sample_readers import exported, pictures, random_reader

from lprnet.errors import LprnetError
from training.network.macs import count_macs

import bench_engines  # isort: skip - sample_readers says where build/ is


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_multiplications_are_those_of_the_network(precision: str) -> None:
    network, _ = random_reader()
    counted = bench_engines.macs_per_crop(exported(precision=precision))
    assert counted == pytest.approx(count_macs(network), rel=0.01)


def test_works_take_turns() -> None:
    calls: list[str] = []
    ticks = iter(range(100))
    works = [(lambda: calls.append("a"), 2), (lambda: calls.append("b"), 1)]
    times = bench_engines.in_turns(works, 3, lambda: float(next(ticks)))
    assert calls == ["a", "a", "b"] * 3
    assert [mine.tolist() for mine in times] == [[[1.0, 1.0]] * 3, [[1.0]] * 3]


def test_a_run_prints_speed_ratio_and_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("image", "label"):
        (tmp_path / folder).mkdir()
    for i, crop in enumerate(pictures(3).crops):
        cv2.imwrite(str(tmp_path / "image" / f"{i}.png"), crop.transpose(1, 2, 0))
        (tmp_path / "label" / f"{i}.txt").write_text("AB12")
    fp32, int8 = exported(), exported(precision="int8")
    arguments = [str(tmp_path), "--onnx", str(int8), str(fp32), "--rounds", "2"]
    arguments += ["--batch", "2", "--turn", "4"]
    assert bench_engines.main([*arguments, "--clock", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert f"{fp32.name}, OpenVINO fp32" in printed
    assert "files to text at" in printed
    assert bench_engines.main([*arguments, "--threads", "2"]) == 0
    assert "2 of " in capsys.readouterr().out
    assert bench_engines.main([*arguments, "--clock", "cpu", "--threads", "2"]) == 2
    assert "use it with --threads 1" in capsys.readouterr().err
    with pytest.raises(LprnetError, match="no peer"):
        bench_engines.peer_reader("none", tmp_path, 1, bench_engines.spread_over(1))
