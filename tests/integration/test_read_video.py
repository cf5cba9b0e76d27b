"""`lprnet read VIDEO --boxes FILE` through a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx_samples import paint

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
FRAMES = 40


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Two vehicles: one with a plate that moves, one whose plate is hidden in most frames."""
    path = tmp_path_factory.mktemp("video") / "gate.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 25, (320, 240))
    assert writer.isOpened()
    for number in range(FRAMES):
        frame = np.full((240, 320, 3), 90, np.uint8)
        left = 4 * number
        frame[20:68, left : left + 96] = paint("MOV1NG").transpose(1, 2, 0)
        hidden = paint("H1DE" if number % 4 == 0 else "").transpose(1, 2, 0)
        frame[120:168, 200:296] = hidden
        writer.write(frame)
    writer.release()
    return path


def boxes(path: Path) -> Path:
    lines = []
    for number in range(0, FRAMES, 2):
        lines.append({"frame": number, "track": "left", "box": [4 * number, 20, 96, 48]})
        if number < 20:
            lines.append({"frame": number, "track": "right", "box": [200, 120, 96, 48]})
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def lprnet_read(*arguments, **options):
    command = [sys.executable, str(ROOT / "lprnet_cli.py"), "read", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, **options
    )


@pytest.mark.parametrize("piped", [False, True])
def test_one_row_a_track(sample_server, video, tmp_path, piped):
    source = boxes(tmp_path / "boxes.jsonl")
    result = lprnet_read(
        *(video, "--boxes", "-" if piped else source, "-f", "tsv", "--patience", "6"),
        *("--url", sample_server.grpc_url),
        input=source.read_text() if piped else None,
    )
    assert (result.returncode, result.stderr) == (0, "")
    head, *rows = (line.split("\t") for line in result.stdout.splitlines())
    assert head == ["track", "plate", "confidence", "first_frame", "last_frame", "frames"]
    assert [[row[0], row[1], *row[3:]] for row in rows] == [
        ["right", "H1DE", "0", "18", "10"],
        ["left", "MOV1NG", "0", "38", "20"],
    ]
    assert all(0.5 < float(row[2]) <= 1 for row in rows)


def test_wrong_use_is_told_in_one_line(sample_server, video, tmp_path):
    source = boxes(tmp_path / "boxes.jsonl")
    late = tmp_path / "late.jsonl"
    late.write_text('{"frame": 99, "track": 1, "box": [0, 0, 9, 9]}')
    for arguments, words in [
        ([source, "--boxes", source], "cannot open the video"),
        ([video, "--boxes", tmp_path / "none"], "No such file"),
        ([video, "--boxes", late], "frame 99"),
        ([video, video, "--boxes", source], "one video"),
    ]:
        result = lprnet_read(*arguments, "--url", sample_server.grpc_url)
        assert result.returncode == 2
        assert words in result.stderr
        assert "Traceback" not in result.stderr


def test_what_was_read_before_a_bad_line_is_kept(sample_server, video, tmp_path):
    """Seen to fail: one box outside its frame, or a torn last line, and no row was written."""
    source = boxes(tmp_path / "boxes.jsonl")
    good = source.read_text().splitlines()
    outside = json.dumps({"frame": 19, "track": "ghost", "box": [5000, 0, 9, 9]})
    lines = [line for line in good if json.loads(line)["frame"] < 20]
    source.write_text("\ufeff" + "\n".join([*lines, outside, '{"frame": 20, "tra']) + "\n")
    result = lprnet_read(*(video, "--boxes", source, "-f", "tsv", "--url", sample_server.grpc_url))
    assert result.returncode == 2
    assert f"line {len(lines) + 2}" in result.stderr
    assert "(3 tracks written)" in result.stderr
    rows = {row.split("\t")[0]: row.split("\t")[1:] for row in result.stdout.splitlines()[1:]}
    assert (rows["right"][0], rows["left"][0]) == ("H1DE", "MOV1NG")
    assert rows["ghost"] == ["", "0.0000", "19", "19", "1"]
