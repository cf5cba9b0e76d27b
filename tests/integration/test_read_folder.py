"""`lprnet read` through a real server: a folder with every kind of bad file in it."""

from __future__ import annotations

import csv
import json
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import pytest
from onnx_samples import paint

from serving import TritonServer

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]


def lprnet_read(server: TritonServer, *arguments) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "lprnet_cli.py"), "read", "--url", server.grpc_url]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def write_picture(path: Path, text: str) -> Path:
    cv2.imwrite(str(path), paint(text).transpose(1, 2, 0))
    return path


def bomb(width_px: int, height_px: int) -> bytes:
    """A valid black PNG of that size in few bytes: 1 bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    pack = zlib.compressobj(9)
    row = bytes(1 + (width_px + 7) // 8)
    pixels = b"".join(pack.compress(row) for _ in range(height_px)) + pack.flush()
    header = struct.pack(">IIBBBBB", width_px, height_px, 1, 0, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", pixels),
            chunk(b"IEND", b""),
        ]
    )


def test_bad_files_among_good_ones(sample_server, tmp_path):
    for i in (1, 2, 10):
        write_picture(tmp_path / f"plate{i}.png", f"GOOD{i}")
    (tmp_path / "plate3.txt").write_text("no picture at all")
    (tmp_path / "plate4.jpg").touch()
    whole = cv2.imencode(".jpg", paint("A").transpose(1, 2, 0))[1].tobytes()
    (tmp_path / "plate5.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "plate6.png").write_bytes(bomb(20_000, 20_000))

    result = lprnet_read(sample_server, tmp_path, "--format", "tsv")
    assert (result.returncode, result.stderr) == (1, "")
    head, *rows = (line.split("\t") for line in result.stdout.splitlines())
    assert head == ["file", "plate", "confidence", "error"]
    assert [Path(row[0]).name for row in rows] == [
        "plate1.png",
        "plate2.png",
        "plate3.txt",
        "plate4.jpg",
        "plate5.jpg",
        "plate6.png",
        "plate10.png",
    ]
    assert [row[1] for row in rows] == ["GOOD1", "GOOD2", "", "", "", "", "GOOD10"]
    for row, words in zip(
        rows[2:6], ("not a picture", "empty", "truncated", "20000 x 20000"), strict=True
    ):
        assert words in row[3]
    for row in (rows[0], rows[1], rows[6]):
        assert 0.5 < float(row[2]) <= 1
        assert row[3] == ""

    again = lprnet_read(sample_server, tmp_path / "plate1.png", "--format", "jsonl")
    assert again.returncode == 0
    assert json.loads(again.stdout)["plate"] == "GOOD1"


@pytest.mark.parametrize("in_flight", [1, 4])
def test_several_batches_stay_in_order(sample_server, tmp_path, in_flight):
    for i in range(300):
        write_picture(tmp_path / f"{i}.png", f"N{i}")
    result = lprnet_read(sample_server, tmp_path / "*.png", "-f", "csv", "--in-flight", in_flight)
    assert result.returncode == 0
    rows = result.stdout.splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == [f"N{i}" for i in range(300)]


def test_sub_folders(sample_server, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    write_picture(tmp_path / "a" / "1.png", "UP")
    write_picture(tmp_path / "a" / "b" / "1.png", "DOWN")
    flat = lprnet_read(sample_server, tmp_path / "a", "-f", "tsv")
    deep = lprnet_read(sample_server, tmp_path / "a", "-f", "tsv", "-r")
    assert [line.split("\t")[1] for line in flat.stdout.splitlines()[1:]] == ["UP"]
    assert [line.split("\t")[1] for line in deep.stdout.splitlines()[1:]] == ["UP", "DOWN"]


def test_killed_in_the_middle_and_resumed(sample_server, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(20):
        write_picture(tmp_path / f"source{i}.png", f"N{i}")
    for i in range(3000):
        os.link(tmp_path / f"source{i % 20}.png", folder / f"{i}.png")
    output = tmp_path / "plates.csv"
    command = [sys.executable, str(ROOT / "lprnet_cli.py"), "read", str(folder), "-o", str(output)]
    process = subprocess.Popen([*command, "--url", sample_server.grpc_url])
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (output.exists() and output.stat().st_size > 4000):
        time.sleep(0.02)
    process.kill()
    process.wait()
    first = output.read_text().count("\n") - 1
    assert 0 < first < 3000, "the kill came too late or too early to show anything"

    result = lprnet_read(sample_server, folder, "-o", output, "--resume")
    assert result.returncode == 0, result.stderr
    with output.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(Path(row["file"]).name, row["plate"]) for row in rows] == [
        (f"{i}.png", f"N{i % 20}") for i in range(3000)
    ]
