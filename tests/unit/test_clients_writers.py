"""Rows in every format, and going on after an interruption at any byte."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.errors import ConfigurationError
from clients.output import Output
from clients.result import FileReading, PlateReading
from clients.resume import RESUMABLE, Done, recover
from clients.writers import FILE_ROWS, FORMATS, open_writer

ROWS = [
    FileReading("a.jpg", PlateReading("AB12", 0.98765, (1.0, 0.99999, 0.99, 0.9989))),
    FileReading("b\t\n\\.jpg", None, "no such file"),
    FileReading('c,"d".jpg', PlateReading("", 0.0, ())),
]


def written(kind, rows, **options):
    stream = io.StringIO()
    writer = open_writer(kind, stream, FILE_ROWS, **options)
    for row in rows:
        writer.write(row)
    writer.close()
    return stream.getvalue()


def test_tsv():
    assert written("tsv", ROWS).splitlines() == [
        "file\tplate\tconfidence\terror",
        "a.jpg\tAB12\t0.9877\t",
        "b\\t\\n\\\\.jpg\t\t\tno such file",
        'c,"d".jpg\t\t0.0000\t',
    ]


def test_csv_is_read_back_by_the_standard_reader():
    rows = list(csv.reader(io.StringIO(written("csv", ROWS), newline="")))
    assert rows[0] == ["file", "plate", "confidence", "error"]
    assert [row[0] for row in rows[1:]] == [row.file for row in ROWS]


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], []])
def test_json_is_one_document(rows):
    values = json.loads(written("json", rows))
    assert [value["file"] for value in values] == [row.file for row in rows]


def test_jsonl_tells_everything():
    first, second, _ = map(json.loads, written("jsonl", ROWS).splitlines())
    assert first == {
        "file": "a.jpg",
        "plate": "AB12",
        "confidence": 0.9877,
        "char_confidences": [1.0, 1.0, 0.99, 0.9989],
        "error": None,
    }
    assert second["plate"] is None
    assert second["error"] == "no such file"


def test_table_is_aligned_and_safe_for_a_terminal():
    lines = written("table", [*ROWS, FileReading("\x1b[31m.jpg", None, "x")]).splitlines()
    assert len({line.find("confidence") for line in lines[:1]} | {lines[1].find("0.9877")}) == 1
    assert "\x1b" not in "".join(lines)
    assert len(lines) == 5


def test_table_streams_after_its_first_rows():
    stream = io.StringIO()
    writer = open_writer("table", stream, FILE_ROWS)
    for _ in range(500):
        writer.write(ROWS[0])
    assert len(stream.getvalue().splitlines()) == 501


@pytest.mark.parametrize("kind", FORMATS)
def test_file_names_keep_their_bytes(kind, tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    with Output(tmp_path / "out") as output:
        writer = open_writer(kind, output.stream, FILE_ROWS)
        writer.write(FileReading(name, None, "x"))
        writer.close()
    data = (tmp_path / "out").read_bytes()
    assert (b"caf\xe9.jpg" in data) == (kind in ("tsv", "csv"))
    assert (b"caf\\udce9.jpg" in data) == (kind not in ("tsv", "csv"))


def test_output_that_cannot_be_written(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot write"):
        Output(tmp_path / "no" / "out.tsv")


names = st.text(
    st.characters(blacklist_categories=["Cs"]) | st.sampled_from('\t\n\r\\",'), min_size=1
)


@pytest.mark.parametrize("kind", RESUMABLE)
@given(files=st.lists(names.filter(lambda name: "\0" not in name), max_size=6), data=st.data())
def test_cut_anywhere_no_row_is_lost_or_doubled(kind, files, data, tmp_path_factory):
    rows = [
        FileReading(f, None, "bad") if i % 2 else FileReading(f, PlateReading("A\u00dc", 1, (1, 1)))
        for i, f in enumerate(files)
    ]
    whole = written(kind, rows).encode()
    path: Path = tmp_path_factory.mktemp("cut") / "out"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)), "cut at")])

    done = recover(path, kind)
    left = list(done.remaining(files))
    by_name = {row.file: row for row in rows}
    with Output(path, append=True) as output:
        writer = open_writer(kind, output.stream, FILE_ROWS, heading=done.size_bytes == 0)
        for file in left:
            writer.write(by_name[file])
    again = recover(path, kind)
    assert again.count == len(files)
    assert list(again.remaining(files)) == []
    assert done.count + len(left) == len(files)


def test_recover_counts_errors(tmp_path):
    for kind in RESUMABLE:
        path = tmp_path / kind
        path.write_text(written(kind, ROWS))
        assert recover(path, kind).errors == 1


@pytest.mark.parametrize("kind", RESUMABLE)
def test_foreign_file_is_left_alone(kind, tmp_path):
    path = tmp_path / "diary.txt"
    path.write_text("dear diary\nplates,all day\n")
    with pytest.raises(ConfigurationError, match=r"diary\.txt"):
        recover(path, kind)
    assert path.read_text() == "dear diary\nplates,all day\n"


@pytest.mark.parametrize("kind", RESUMABLE)
@pytest.mark.parametrize("content", ['{"my": "data"}', "my,own,csv", "[1, 2]\n", "file"])
def test_foreign_file_of_one_line_is_left_alone(kind, content, tmp_path):
    """Seen to fail: without a line end it was taken for a torn row of ours and cut off."""
    path = tmp_path / "mine"
    path.write_text(content)
    if content == "file" and kind != "jsonl":  # the beginning of our heading
        assert recover(path, kind).count == 0
        return
    with pytest.raises(ConfigurationError, match=r"no .* rows of this program"):
        recover(path, kind)
    assert path.read_text() == content


def test_nothing_to_recover(tmp_path):
    assert list(recover(tmp_path / "none.tsv", "tsv").remaining(["a"])) == ["a"]
    assert list(Done().remaining(["a", "a"])) == ["a", "a"]
