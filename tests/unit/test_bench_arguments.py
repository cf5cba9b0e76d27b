"""`lprnet bench` refuses what cannot work before it starts a server."""

from __future__ import annotations

from pathlib import Path

import pytest

import lprnet_cli
from load_tests import bench
from load_tests.pictures import SAMPLES


class Started(Exception):
    """The server would have been started."""


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise Started

    monkeypatch.setattr(bench, "bench_server", start)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The line with which `lprnet bench` ends."""
    assert lprnet_cli.main(["bench", "--no-peer", *map(str, arguments)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def test_a_good_call_makes_its_folder_and_starts(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    with pytest.raises(Started):
        lprnet_cli.main(["bench", "--no-peer", "--out", str(out), "--pictures", str(SAMPLES)])
    assert list(out.iterdir()) == []


def test_an_out_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert f"cannot write into --out {file}: " in refusal(capsys, "--out", file)
    assert "Not a directory" in refusal(capsys, "--out", file / "below")
    closed = Path("/proc")  # nobody may make files there, root included
    assert "cannot write into --out /proc: " in refusal(capsys, "--out", closed)


def test_pictures_that_are_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out, none, file = tmp_path / "out", tmp_path / "none", tmp_path / "a.jpg"
    file.touch()
    options = ["--out", out, "--pictures"]
    assert refusal(capsys, *options, none) == (
        f"error: cannot read {none}: No such file or directory\n"
    )
    assert refusal(capsys, *options, file) == f"error: cannot read {file}: Not a directory\n"


def test_a_set_with_odd_entries(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plates = tmp_path / "plates"
    (plates / "folder.jpg").mkdir(parents=True)
    options = ["--out", tmp_path / "out", "--pictures", plates]
    assert "no pictures in" in refusal(capsys, *options)
    (plates / "label").mkdir()
    (plates / "a.jpg").write_bytes(b"picture")
    (plates / "label" / "a.txt").write_bytes(b"\xff")
    assert "a.txt is no UTF-8 text" in refusal(capsys, *options)


def test_a_picture_that_may_not_be_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(path: Path) -> bytes:  # root may read everything
        raise PermissionError(13, "Permission denied", str(path))

    picture = tmp_path / "a.jpg"
    picture.touch()
    monkeypatch.setattr(Path, "read_bytes", forbid)
    said = refusal(capsys, "--out", tmp_path / "out", "--pictures", tmp_path)
    assert said == f"error: cannot read {picture}: Permission denied\n"


@pytest.mark.parametrize("seconds", ["nan", "inf", "-inf", "0", "-1"])
def test_seconds_that_never_end(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, seconds: str
) -> None:
    said = refusal(capsys, f"--seconds={seconds}", "--out", tmp_path)
    assert said.startswith("error: --seconds must be above 0 and finite")
