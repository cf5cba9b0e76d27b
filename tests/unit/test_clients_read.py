"""`lprnet read` as a person runs it, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_triton import FakeTriton, picture, serve, text_of
from read_program import ROOT, lprnet_read


@pytest.fixture
def fake():
    with serve(FakeTriton()) as fake:
        yield fake


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "plates"
    folder.mkdir()
    for i in (1, 2, 10):
        (folder / f"car{i}.jpg").write_bytes(picture(i))
    return folder


def rows_of(result):
    return [line.split("\t") for line in result.stdout.splitlines()]


def test_folder_as_tsv(fake, folder):
    result = lprnet_read(folder, "--format", "tsv", "--url", fake.url)
    assert (result.returncode, result.stderr) == (0, "")
    assert rows_of(result) == [
        ["file", "plate", "confidence", "error"],
        *([f"{folder}/car{i}.jpg", text_of(picture(i)), "0.0078", ""] for i in (1, 2, 10)),
    ]


def test_rows_that_the_shell_sends_into_the_folder_are_no_pictures(fake, folder):
    with (folder / "rows.tsv").open("w") as rows:
        result = lprnet_read(folder, "-f", "tsv", "--url", fake.url, stdout=rows)
        again = lprnet_read(folder / "rows.tsv", "-f", "tsv", "--url", fake.url, stdout=rows)
    assert (result.returncode, result.stderr) == (0, "")
    lines = (folder / "rows.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == [
        f"{folder}/car{i}.jpg" for i in (1, 2, 10)
    ]
    assert again.returncode == 2
    assert "rows.tsv is to be read and is where the rows go" in again.stderr


def test_bad_files_get_their_rows_and_the_code_is_1(fake, folder):
    (folder / "car2.jpg").write_bytes(picture(2)[:-10])
    (folder / "empty.jpg").touch()
    result = lprnet_read(folder, folder / "none.jpg", "-f", "tsv", "--url", fake.url)
    assert result.returncode == 1
    assert [(row[1] != "", row[3]) for row in rows_of(result)[1:]] == [
        (True, ""),
        (False, "the JPEG picture is truncated: its end is missing"),
        (True, ""),
        (False, "the picture is empty (0 bytes)"),
        (False, "no such file or directory"),
    ]


def test_address_from_the_environment_and_list_from_stdin(fake, folder):
    listed = "\n".join(str(folder / f"car{i}.jpg") for i in (10, 1))
    result = lprnet_read(
        "-", "-f", "jsonl", env={**os.environ, "LPRNET_URL": fake.url}, input=listed
    )
    assert [json.loads(line)["plate"] for line in result.stdout.splitlines()] == [
        text_of(picture(10)),
        text_of(picture(1)),
    ]


def test_min_confidence_leaves_the_plate_empty(fake, folder):
    result = lprnet_read(folder, "-f", "tsv", "--url", fake.url, "--min-confidence", "0.5")
    assert result.returncode == 0
    assert {(row[1], row[2]) for row in rows_of(result)[1:]} == {("", "0.0078")}


def test_no_server_says_how_to_start_one_and_spares_the_output(tmp_path, folder):
    output = tmp_path / "plates.csv"
    output.write_text("precious")
    result = lprnet_read(folder, "--url", "127.0.0.1:9", "-o", output)
    assert result.returncode == 2
    assert "make serve" in result.stderr
    assert result.stderr.count("\n") == 1
    assert output.read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{empty}"], "no file to read"),
        (["{empty}", "--resume"], "--output"),
        (["{empty}", "--resume", "--output", "x.json"], "tsv, csv, jsonl, parquet"),
        (["{none}", "-f", "parquet"], "--output"),
        (["{empty}", "--min-confidence", "2"], "0..1"),
        (["{empty}", "--url", "nonsense:port"], "no file"),
        (["{none}", "--url", "nonsense:port"], "HOST:PORT"),
        (["{none}", "--in-flight", "0"], "at least 1"),
        (["{none}", "--timeout", "1e10"], "at most 1e+08 seconds"),
        (["{none}", "--url", "::1:8001"], "[::1]:8001"),
        ([], "PATH"),
    ],
)
def test_wrong_use(tmp_path, arguments, words):
    given = [a.format(empty=tmp_path, none=tmp_path / "none.jpg") for a in arguments]
    result = lprnet_read(*given)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_server_that_fails_in_the_middle_keeps_the_rows(fake, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(200):
        (folder / f"{i}.jpg").write_bytes(picture(i))
    output = tmp_path / "plates.tsv"
    command = [folder, "-o", output, "--url", fake.url, "--in-flight", "1"]

    fake.fail_after = 2
    first = lprnet_read(*command)
    assert first.returncode == 2
    assert "--resume" in first.stderr
    assert 64 <= len(output.read_text().splitlines()) - 1 < 200

    fake.fail_after = None
    second = lprnet_read(*command, "--resume")
    assert second.returncode == 0, second.stderr
    lines = output.read_text().splitlines()
    assert [line.split("\t")[1] for line in lines[1:]] == [text_of(picture(i)) for i in range(200)]
    assert lprnet_read(*command, "--resume").returncode == 0
    assert output.read_text().splitlines() == lines


def test_parquet_with_an_interruption(fake, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(150):
        (folder / f"{i}.jpg").write_bytes(picture(i))
    (folder / "200.jpg").touch()
    output = tmp_path / "plates.parquet"
    command = [folder, "-o", output, "--url", fake.url, "--in-flight", "1"]
    fake.fail_after = 1
    assert lprnet_read(*command).returncode == 2
    assert not output.exists()
    fake.fail_after = None
    assert lprnet_read(*command, "--resume").returncode == 1
    table = parquet.read_table(output)
    assert table["plate"].to_pylist() == [*(text_of(picture(i)) for i in range(150)), None]
    assert table["char_confidences"][0].as_py() == [0.5] * 7
    assert table["error"][150].as_py() == "the picture is empty (0 bytes)"

    (folder / "300.jpg").write_bytes(picture(300))
    assert lprnet_read(*command, "--resume").returncode == 1
    assert parquet.read_table(output)["plate"].to_pylist()[149:] == [
        text_of(picture(149)),
        None,
        text_of(picture(300)),
    ]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["plates.parquet"]


def test_parquet_and_a_name_that_is_no_utf8(fake, folder, tmp_path):
    """Seen to fail: each --resume added the row once more."""
    parquet = pytest.importorskip("pyarrow.parquet")
    Path(os.fsdecode(os.fsencode(folder) + b"/odd\xff.jpg")).write_bytes(picture(3))
    (folder / "odd\\udcfe.jpg").write_bytes(picture(4))  # looks like the escape of another
    (folder / "odd\\u005c.jpg").write_bytes(picture(5))
    output = tmp_path / "plates.parquet"
    for more in ([], ["--resume"], ["--resume"]):
        result = lprnet_read(folder, "-o", output, "--url", fake.url, *more)
        assert result.returncode == 0, result.stderr
        names = parquet.read_table(output)["file"].to_pylist()
        assert [name.rpartition("/")[2] for name in names] == [
            *("car1.jpg", "car2.jpg", "car10.jpg"),
            "odd\\u005cu005c.jpg",
            "odd\\u005cudcfe.jpg",
            "odd\\udcff.jpg",
        ]


def test_a_name_longer_than_csv_takes(fake, folder, tmp_path):
    """Seen to fail: --resume said that the file holds no rows of this program."""
    listed = tmp_path / "list"
    listed.write_text("x" * 200_000 + f"\n{folder}/car1.jpg\n")
    output = tmp_path / "plates.csv"
    program = [sys.executable, str(ROOT / "lprnet_cli.py")]
    for more in ([], ["--resume"]):
        result = subprocess.run(
            [*program, "read", "-", "-q", "-o", str(output), "--url", fake.url, *more],
            stdin=listed.open(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 1, result.stderr  # the long name is no file
        assert output.read_text().count("\n") == 3


def test_parquet_of_somebody_else(fake, folder, tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    output = tmp_path / "mine.parquet"
    parquet.write_table(pyarrow.table({"file": ["a"], "size": [1]}), output)
    result = lprnet_read(folder, "-o", output, "--url", fake.url, "--resume")
    assert result.returncode == 2
    assert "mine.parquet: it holds no rows of this program" in result.stderr
    (tmp_path / "folder.parquet").mkdir()
    result = lprnet_read(folder, "-o", tmp_path / "folder.parquet", "--url", fake.url)
    assert (result.returncode, fake.requests) == (2, [])
    assert "it is a folder" in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("folder.parquet", "mine.parquet", "plates"),
    ]


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl", "json", "table"])
def test_a_full_disk_is_told_in_one_line(fake, folder, kind):
    program = [sys.executable, str(ROOT / "lprnet_cli.py"), "read"]
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*program, str(folder), "-q", "-f", kind, "--url", fake.url],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.returncode == 2
    assert result.stderr == "error: cannot write the rows: No space left on device\n"


def test_the_output_is_no_picture(fake, folder):
    """Seen to fail: a second run read the first one's rows as a picture."""
    output = folder / "plates.csv"
    for more in ([], ["--resume"], []):
        result = lprnet_read(folder, "-o", output, "--url", fake.url, *more)
        assert (result.returncode, result.stderr) == (0, "")
        assert len(output.read_text().splitlines()) == 1 + 3
    only = folder / "car1.jpg"
    result = lprnet_read(only, "-o", only, "--url", fake.url)
    assert result.returncode == 2
    assert only.read_bytes() == picture(1)


def test_odd_entries_get_their_rows(fake, folder):
    """Seen to fail: a link to itself ended the whole read."""
    (folder / "self").symlink_to("self")
    listed = f"{folder}/car1.jpg\0x\n"
    result = lprnet_read(folder, "-f", "tsv", "--url", fake.url)
    assert result.returncode == 1
    assert rows_of(result)[-1][3] == "too many levels of symbolic links"
    result = lprnet_read("-", "-f", "jsonl", "--url", fake.url, input=listed)
    assert result.returncode == 1
    assert json.loads(result.stdout)["error"] == "embedded null byte"


def test_ctrl_c_ends_at_once_without_a_traceback(fake, folder):
    fake.delay_s = 20
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "lprnet_cli.py"), "read", str(folder), "--url", fake.url],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while not fake.requests and time.monotonic() < deadline:
        time.sleep(0.05)
    assert fake.requests
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=15)
    assert (process.returncode, errors) == (130, "interrupted\n")
    assert time.monotonic() - begin < 5


def test_reader_that_leaves_early(fake, folder):
    result = subprocess.run(
        f"{sys.executable} {ROOT}/lprnet_cli.py read {folder} {folder} {folder} -f tsv "
        f"--url {fake.url} | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout.startswith("file\t")
    assert "Traceback" not in result.stderr


def test_no_torch():
    code = "import sys, clients.read, clients; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
