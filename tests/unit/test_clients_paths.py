"""Which files are read, and in which order."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from clients.errors import ConfigurationError
from clients.paths import expand, lines_of, natural_key


@pytest.mark.parametrize(
    "ordered",
    [
        ["car1", "car2", "car9", "car10", "car100"],
        ["1", "2", "10", "a", "b"],
        ["a0", "a1b2", "a1b10", "a2"],
        ["IMG2", "img3", "IMG10"],
        ["20240101_9", "20240101_10"],
        ["x" + "9" * 30, "x1" + "0" * 30],
    ],
)
def test_natural_order(ordered):
    assert sorted({*ordered}, key=natural_key) == ordered


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in ["p10.jpg", "p9.jpg", "notes.txt", ".hidden.jpg", "[1].jpg", "sub/b.jpg", "sub/.c"]:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "in" / "empty").mkdir()
    (tmp_path / "in" / "sub" / "loop").symlink_to(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folder_gives_its_files_in_natural_order(tree):
    assert list(expand(["in"])) == ["in/[1].jpg", "in/notes.txt", "in/p9.jpg", "in/p10.jpg"]


def test_sub_folders_only_when_asked_and_loops_not_followed(tree):
    assert list(expand(["in"], recursive=True))[4:] == ["in/sub/b.jpg"]


def test_patterns_are_expanded_and_names_with_brackets_are_not(tree):
    assert list(expand(["in/p*.jpg"])) == ["in/p9.jpg", "in/p10.jpg"]
    assert list(expand(["in/[1].jpg"])) == ["in/[1].jpg"]
    assert list(expand(["in/s*"])) == ["in/sub/b.jpg"]
    assert list(expand(["i*"])) == list(expand(["in"]))


def test_arguments_keep_their_order_and_may_repeat(tree):
    given = ["in/p9.jpg", "in/none.jpg", "in/*.gif", "in/p9.jpg"]
    assert list(expand(given)) == given


def test_hidden_file_is_read_when_named(tree):
    assert list(expand(["in/.hidden.jpg"])) == ["in/.hidden.jpg"]


def test_name_that_is_no_utf8(tree):
    raw = b"in/caf\xe9.jpg"
    with open(raw, "wb"):
        pass
    assert os.fsdecode(raw) in list(expand(["in"]))


def test_a_folder_that_cannot_be_listed_stands_for_itself(tree, monkeypatch):
    """As root nothing is forbidden: the error is made."""
    (tree / "in" / "sub" / "locked").mkdir()
    scandir = os.scandir

    def forbid(path):
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    before = list(expand([str(tree)], recursive=True))
    monkeypatch.setattr(os, "scandir", forbid)
    after = list(expand([str(tree)], recursive=True))
    assert set(after) - set(before) == {str(tree / "in" / "sub" / "locked")}
    assert set(before) <= set(after)


def test_list_of_paths(tmp_path):
    listed = tmp_path / "list"
    listed.write_bytes(b"a b.jpg\r\n\nc\xff.jpg")
    with listed.open() as stream:
        assert list(lines_of(stream)) == ["a b.jpg", "c\udcff.jpg"]
    listed.write_bytes(b"a\nb.jpg\0\0c\r\0")
    with listed.open() as stream:
        assert list(lines_of(stream, b"\0")) == ["a\nb.jpg", "c\r"]


def test_a_list_with_nuls_is_told_of(tmp_path):
    listed = tmp_path / "list"
    listed.write_bytes(b"a.jpg\0b.jpg\0")
    with listed.open() as stream, pytest.raises(ConfigurationError, match="--null"):
        list(lines_of(stream))


def test_a_list_comes_through_a_pipe_that_does_not_block():
    """As parents such as Node make it. Seen to end as an error of the output."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.write(writer, b"a.jpg\n")

    def more():
        time.sleep(0.2)
        os.write(writer, b"b.jpg\n")
        os.close(writer)

    late = threading.Thread(target=more)
    late.start()
    with open(reader, encoding="utf-8") as stream:
        assert list(lines_of(stream)) == ["a.jpg", "b.jpg"]
    late.join()


def test_a_list_that_cannot_be_read_is_told_of(tmp_path):
    wrong = pytest.raises(ConfigurationError, match=r"cannot read .*list: Bad file descriptor")
    with (tmp_path / "list").open("w") as stream, wrong:
        list(lines_of(stream))


def test_folders_deeper_than_pythons_stack(tmp_path):
    """Seen to fail with a RecursionError."""
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(1200):
            os.mkdir("d")
            os.chdir("d")
        Path("a.jpg").touch()
        os.chdir(tmp_path)
        (found,) = expand(["."], recursive=True)
        assert found.count("d") == 1200
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # pytest could not
