"""The demo with a model whose answers are known, and its end by Ctrl-C."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import psutil
import pytest
from onnx_samples import paint

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def samples(tmp_path):
    folder = tmp_path / "samples"
    folder.mkdir()
    lines = ["file\ttext\tregion\tlines"]
    for text in ("AB12", "CC3D"):
        cv2.imwrite(str(folder / f"{text}.png"), paint(text).transpose(1, 2, 0))
        lines.append(f"{text}.png\t{text}\tXX\t1")
    (folder / "labels.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def command(samples, sample_repository, tmp_path):
    return [
        *(sys.executable, "-m", "clients.demo", "--samples", str(samples)),
        *("--repository", str(sample_repository), "--sheet", str(tmp_path / "out" / "sheet.png")),
    ]


def demo(command):
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def test_all_right(command, samples, tmp_path):
    cv2.imwrite(str(tmp_path / "mine.png"), paint("MINE7").transpose(1, 2, 0))
    result = demo([*command, str(tmp_path / "*.png")])
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(" OK\n") == 2
    assert "MINE7" in result.stdout
    assert "2 of 2 samples read right, 1 of 1 other pictures read" in result.stdout
    sheet = cv2.imread(str(tmp_path / "out" / "sheet.png"))
    assert sheet.shape[1] > 3 * 230


def test_one_wrong_and_one_unreadable(command, samples, tmp_path):
    labels = samples / "labels.tsv"
    labels.write_text(labels.read_text().replace("\tCC3D", "\tCC3E"))
    (tmp_path / "note.txt").write_text("hello")
    result = demo([*command, str(tmp_path / "note.txt")])
    assert result.returncode == 1
    assert " WRONG\n" in result.stdout
    assert "1 of 2 samples read right, 0 of 1 other pictures read" in result.stdout
    assert "not a picture" in result.stdout


def test_interrupt_leaves_no_process(command):
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        children = psutil.Process(process.pid).children(recursive=True)
        if any("tritonserver" in child.name() for child in children):
            break
        time.sleep(0.05)
    assert any("tritonserver" in child.name() for child in children)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert psutil.wait_procs(children, timeout=10)[1] == []


def test_shipped_samples_are_complete():
    rows = list(csv.DictReader((ROOT / "samples" / "labels.tsv").open(), delimiter="\t"))
    pictures = {path.name for path in (ROOT / "samples").glob("*.jpg")}
    assert {row["file"] for row in rows} == pictures
    assert len(rows) == 24
    assert sum(path.stat().st_size for path in (ROOT / "samples").iterdir()) < 400_000
    assert {row["lines"] for row in rows} == {"1", "2"}
    assert len({row["region"] for row in rows}) >= 15
