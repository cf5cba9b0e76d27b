"""`lprnet read` and the file that it writes: what must survive, and what must be told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_triton import FakeTriton, picture, serve, text_of
from read_program import ROOT, lprnet_read

from clients.errors import ConfigurationError
from clients.own_files import OwnFiles, held

BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.fixture
def fake():
    with serve(FakeTriton()) as fake:
        yield fake


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "plates"
    folder.mkdir()
    for name in "az":
        (folder / f"{name}.jpg").write_bytes(picture(ord(name)))
    return folder


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "gate.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for level in range(20):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    return path


def named(output: Path) -> list[str]:
    return [line.split(",")[0] for line in output.read_text().splitlines()[1:]]


def boxes(path: Path, *lines: dict) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def box(frame: int, track: object = "1") -> dict:
    return {"frame": frame, "track": track, "box": [0, 0, 32, 16]}


def test_a_picture_is_not_overwritten(fake, folder):
    """Seen to fail: it was refused after the file had been emptied."""
    before = (folder / "z.jpg").read_bytes()
    result = lprnet_read(
        folder / "a.jpg", folder / "z.jpg", "-o", folder / "z.jpg", "--url", fake.url
    )
    assert result.returncode == 2
    assert "z.jpg is to be read and is the --output" in result.stderr
    assert (folder / "z.jpg").read_bytes() == before


def test_rows_that_a_pattern_names_are_passed_over(fake, folder):
    """Seen to fail: the second run ended at its own rows, and --resume never got past them."""
    output = folder / "plates.csv"
    for more in ([], ["--resume"], []):
        files = sorted(folder.iterdir())
        result = lprnet_read(*files, "-o", output, "--url", fake.url, *more)
        assert (result.returncode, result.stderr) == (0, "")
        assert named(output) == [str(folder / "a.jpg"), str(folder / "z.jpg")]


def test_rows_behind_a_link_or_in_a_list_are_no_pictures(fake, folder):
    (folder / "real.csv").touch()
    link = folder.parent / "link.csv"
    link.symlink_to(folder / "real.csv")
    assert lprnet_read(folder, "-o", link, "--url", fake.url).returncode == 0
    listed = "\n".join(str(path) for path in sorted(folder.iterdir()))
    assert lprnet_read("-", "-o", link, "--url", fake.url, input=listed).returncode == 0
    assert named(folder / "real.csv") == [str(folder / "a.jpg"), str(folder / "z.jpg")]
    assert link.is_symlink()


@pytest.mark.parametrize("end", ["", ".part", ".part.jsonl", ".reopen"])
def test_what_lies_beside_a_parquet_file_is_no_picture(tmp_path, end):
    assert str(tmp_path / f"rows.parquet{end}") in OwnFiles(tmp_path / "rows.parquet")
    assert str(tmp_path / f"other.parquet{end}") not in OwnFiles(tmp_path / "rows.parquet")


def test_two_programs_do_not_write_one_file(fake, folder, tmp_path):
    """Seen to fail: 831 of 6,000 rows were doubled, and both ended well."""
    fake.delay_s = 1.0
    output = tmp_path / "rows.csv"
    command = [sys.executable, str(ROOT / "lprnet_cli.py"), "read", "-", "-o", str(output)]
    first = subprocess.Popen([*command, "--url", fake.url], stdin=subprocess.PIPE, text=True)
    first.stdin.write(f"{folder}/a.jpg\n")
    first.stdin.flush()
    deadline = time.monotonic() + 20
    while not output.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    for more in ([], ["--resume"]):
        second = lprnet_read(folder, "-o", output, "--url", fake.url, *more)
        assert second.returncode == 2
        assert "another `lprnet read` is writing" in second.stderr
    first.communicate(f"{folder}/z.jpg\n", timeout=20)
    assert first.returncode == 0
    assert named(output) == [str(folder / "a.jpg"), str(folder / "z.jpg")]


def test_rows_of_a_slow_list_come_at_once(fake, folder):
    """Seen to fail: the first row came when 64 pictures had been named."""
    command = [sys.executable, str(ROOT / "lprnet_cli.py"), "read", "-", "-f", "jsonl"]
    reader = subprocess.Popen(
        [*command, "--url", fake.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=BUFFERED,
    )
    for name in "az":
        reader.stdin.write(f"{folder}/{name}.jpg\n")
        reader.stdin.flush()
        row = json.loads(reader.stdout.readline())  # before the next one is named
        assert row["plate"] == text_of(picture(ord(name)))
    assert reader.communicate(timeout=20)[0] == ""
    assert reader.returncode == 0


def test_a_list_that_is_separated_by_nuls(fake, folder):
    (folder / "new\nline.jpg").write_bytes(picture(1))
    listed = "\0".join(str(path) for path in sorted(folder.iterdir())) + "\0"
    result = lprnet_read("-", "--null", "-f", "jsonl", "--url", fake.url, input=listed)
    files = [json.loads(line)["file"] for line in result.stdout.splitlines()]
    assert files == [str(path) for path in sorted(folder.iterdir())]
    result = lprnet_read("-", "--url", fake.url, input=listed.replace("\n", ""))
    assert result.returncode == 2
    assert "give --null" in result.stderr


@pytest.mark.parametrize("more", [[], ["--resume", "-f", "csv"], ["-f", "parquet"]])
@pytest.mark.parametrize("output", ["", ".", "/", "x" * 300 + ".csv"])
def test_outputs_that_are_no_files(fake, folder, output, more):
    """Seen to fail with tracebacks."""
    result = lprnet_read(folder, "-o", output, *more, "--url", fake.url)
    assert result.returncode == 2
    assert result.stderr.startswith("error: cannot ")
    assert result.stderr.count("\n") == 1


def test_parquet_replaces_no_device_and_no_link(fake, folder, tmp_path):
    """Seen to fail: as root, /dev/full became a file."""
    pytest.importorskip("pyarrow")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    result = lprnet_read(folder, "-f", "parquet", "-o", pipe, "--url", fake.url)
    assert result.returncode == 2
    assert "no regular file" in result.stderr
    assert pipe.is_fifo()
    (tmp_path / "link.parquet").symlink_to(tmp_path / "real.parquet")
    assert lprnet_read(folder, "-o", tmp_path / "link.parquet", "--url", fake.url).returncode == 0
    assert (tmp_path / "link.parquet").is_symlink()
    assert (tmp_path / "real.parquet").read_bytes().startswith(b"PAR1")


@pytest.mark.parametrize("which", ["video", "boxes"])
def test_a_video_and_its_boxes_are_not_overwritten(fake, video, tmp_path, which):
    """Seen to fail: they were, and the exit code was 0."""
    lines = boxes(tmp_path / "boxes.jsonl", box(0))
    output = video if which == "video" else lines
    before = output.read_bytes()
    result = lprnet_read(video, "--boxes", lines, "-o", output, "--url", fake.url)
    assert result.returncode == 2
    assert "is to be read and is the --output" in result.stderr
    assert output.read_bytes() == before


def test_a_track_ends_when_frames_without_boxes_say_so(fake, video):
    """Rows of a live camera: seen to fail, a row came when 128 later boxes had come."""
    command = [sys.executable, str(ROOT / "lprnet_cli.py"), "read", str(video), "-f", "jsonl"]
    reader = subprocess.Popen(
        [*command, "--boxes", "-", "--patience", "2", "--url", fake.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=BUFFERED,
    )
    for line in (box(0), box(1), {"frame": 2}, {"frame": 3}, {"frame": 4}):
        reader.stdin.write(json.dumps(line) + "\n")
    reader.stdin.flush()
    row = json.loads(reader.stdout.readline())
    assert (row["track"], row["first_frame"], row["last_frame"], row["frames"]) == ("1", 0, 1, 2)
    assert reader.communicate(timeout=20)[0] == ""
    assert reader.returncode == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (box(0, None), "a track is a text or a whole number, not null"),
        (box(0, {"id": 1}), "a track is a text"),
        (box(-1), "frames count from 0"),
        ({**box(0), "box": [1, 2, 3]}, "a box is \\[x, y, width, height\\]"),
    ],
)
def test_boxes_that_are_none(fake, video, tmp_path, line, words):
    result = lprnet_read(video, "--boxes", boxes(tmp_path / "boxes.jsonl", line), "--url", fake.url)
    assert result.returncode == 2
    assert words.replace("\\", "") in result.stderr


@pytest.mark.parametrize("source", [b"v\xff.mp4", b"99999999999"])
def test_videos_that_opencv_cannot_open(fake, tmp_path, source):
    """Seen to fail with a segmentation fault and a traceback."""
    lines = boxes(tmp_path / "boxes.jsonl", box(0))
    result = lprnet_read(os.fsdecode(source), "--boxes", lines, "--url", fake.url)
    assert result.returncode == 2
    assert "cannot open the video" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_video_whose_rows_nobody_wants_any_more(fake, tmp_path):
    """Seen to fail: Python ended while OpenCV took a frame, and the program was aborted."""
    path = tmp_path / "large.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (2560, 1440))
    frame = np.random.default_rng(0).integers(0, 255, (1440, 2560, 3), np.uint8)
    for _ in range(40):
        writer.write(frame)
    writer.release()
    lines = boxes(tmp_path / "boxes.jsonl", *(box(number, str(number)) for number in range(40)))
    command = [sys.executable, str(ROOT / "lprnet_cli.py"), "read", str(path), "-f", "csv"]
    for _ in range(3):
        reader = subprocess.Popen(
            [*command, "--boxes", str(lines), "--patience", "1", "--url", fake.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        reader.stdout.readline()
        reader.stdout.close()
        said = reader.stderr.read()
        assert (reader.wait(30), said) == (141, "")


@pytest.mark.parametrize("output", ["/dev/null", "/dev/stdout", "/dev/stderr"])
def test_devices_and_pipes_are_outputs(fake, folder, output):
    """Seen to fail: a device cannot be cut off, and /dev/stdout leads to no name."""
    result = lprnet_read(folder, "-f", "csv", "-o", output, "--url", fake.url)
    assert result.returncode == 0
    said = {"/dev/stdout": result.stdout, "/dev/stderr": result.stderr}.get(output, "")
    assert said.count(".jpg") == (0 if output == "/dev/null" else 2)


def test_the_lock_lasts_until_the_file_is_complete(tmp_path):
    """Seen to fail: a second program emptied the journal while the Parquet file was made."""
    path = tmp_path / "rows.parquet.part.jsonl"
    with held(path) as opened:
        with path.open("a") as stream:
            opened(stream.fileno())
        with pytest.raises(ConfigurationError, match="another"), held(path):
            pass
    with held(path):
        pass
