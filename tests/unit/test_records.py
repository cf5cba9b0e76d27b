"""Labelled sets: every layout, and every way in which one can be damaged."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.records import DatasetError, Record, read_set


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((20, 60, 3), 90, np.uint8))
    return path


def text(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def annotate(root: Path, stem: str, **values: object) -> None:
    picture(root / "img" / f"{stem}.png")
    text(root / "ann" / f"{stem}.json", json.dumps(values))


def test_tao_layout(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    picture(root / "image" / "a.1.jpg")
    picture(root / "image" / "b.JPG")
    picture(root / "image" / "._b.JPG")  # macOS leaves these beside every file
    text(root / "image" / "notes.md", "no picture")
    text(root / "label" / "a.1.txt", "\ufeffm-ük 12\r\n")
    text(root / "label" / "b.txt", "AB 12\n")
    assert read_set(root) == [
        Record(root / "image" / "a.1.jpg", "MUK12", "", "mine", None, True),
        Record(root / "image" / "b.JPG", "AB12", "", "mine", None, True),
    ]


def test_tao_names_every_picture_without_label(tmp_path: Path) -> None:
    for stem in "abcde":
        picture(tmp_path / "image" / f"{stem}.png")
    text(tmp_path / "label" / "e.txt", "X1")
    with pytest.raises(DatasetError, match=r"4 of 5 pictures .* a\.png, b\.png, c\.png and 1 more"):
        read_set(tmp_path)


def test_tao_label_that_is_not_text(tmp_path: Path) -> None:
    picture(tmp_path / "image" / "a.png")
    text(tmp_path / "label" / "a.txt", b"\xff\xfeA\x00")
    with pytest.raises(DatasetError, match=r"a\.txt is not UTF-8"):
        read_set(tmp_path)


def test_tao_without_pictures(tmp_path: Path) -> None:
    text(tmp_path / "label" / "a.txt", "X1")
    with pytest.raises(DatasetError, match="image is missing"):
        read_set(tmp_path)


def test_manifest_wins_and_tells_most(tmp_path: Path) -> None:
    root = tmp_path / "set"
    text(root / "label" / "ignored.txt", "X")
    header = "file\ttext\tregion\tsource\ttwo_line_guess\tlabel_kind\r\n"
    rows = 'image/a.jpg\tDA "UE 514\tDE\tcamera\t1\tG\r\nimage/b.jpg\tKR1\t\t\t\tP\r\n'
    text(root / "manifest.tsv", "\ufeff" + header + rows)
    assert read_set(root) == [
        Record(root / "image/a.jpg", "DAUE514", "DE", "camera", True, True),
        Record(root / "image/b.jpg", "KR1", "", "set", None, False),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file\tregion\na\tDE\n", r"lacks the column\(s\) \['text'\]"),
        ("file\ttext\na.jpg\n", "line 2 has no file or no text"),
        ("file\ttext\nb.jpg\tX1\n\tX2\n", "line 3 has no file or no text"),
        ("", "lacks the column"),
        ("file\ttext\n", "holds no labelled picture"),
    ],
)
def test_damaged_manifest(tmp_path: Path, content: str, message: str) -> None:
    text(tmp_path / "manifest.tsv", content)
    with pytest.raises(DatasetError, match=message):
        read_set(tmp_path)


def test_nomeroff_layout(tmp_path: Path) -> None:
    root = tmp_path / "autoriaEu"
    annotate(root, "one", description="AA 1234-bb", region_name="eu-ua-2015", count_lines="1")
    annotate(root, "two", description=123456, region_id=3, count_lines=2)
    annotate(root, "three", description="X1")
    found = {record.path.stem: record for record in read_set(root)}
    one = found["one"]
    assert (one.text, one.region, one.two_lines) == ("AA1234BB", "eu-ua-2015", False)
    assert (found["two"].text, found["two"].region, found["two"].two_lines) == ("123456", "3", True)
    assert (found["three"].region, found["three"].two_lines) == ("", None)
    assert {record.source for record in found.values()} == {"autoriaEu"}


def test_nomeroff_splits_are_read_together(tmp_path: Path) -> None:
    root = tmp_path / "autoriaEu"
    annotate(root / "val", "v", description="V1")
    annotate(root / "train", "t", description="T1")
    assert [(r.text, r.source) for r in read_set(root)] == [
        ("T1", "autoriaEu"),
        ("V1", "autoriaEu"),
    ]
    assert [(r.text, r.source) for r in read_set(root / "train")] == [("T1", "autoriaEu")]


@pytest.mark.parametrize(
    "content", ["{}", "[]", '"x"', '{"description": null}', '{"description": true}', "{", "\udcff"]
)
def test_damaged_annotation(tmp_path: Path, content: str) -> None:
    picture(tmp_path / "img" / "a.png")
    text(tmp_path / "ann" / "a.json", content.encode(errors="surrogateescape"))
    with pytest.raises(DatasetError, match=r"a\.json"):
        read_set(tmp_path)


def test_nomeroff_without_annotation(tmp_path: Path) -> None:
    annotate(tmp_path, "a", description="X1")
    picture(tmp_path / "img" / "lonely.png")
    with pytest.raises(DatasetError, match=r"lonely\.png"):
        read_set(tmp_path)


def test_folder_of_named_pictures(tmp_path: Path) -> None:
    for name in ("AB12.jpg", "AB12_2.png", "m-uk 7_left_3.webp"):
        picture(tmp_path / name)
    assert sorted(r.text for r in read_set(tmp_path)) == ["AB12", "AB12", "MUK7"]


def test_folder_with_a_nameless_picture_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "AB12.jpg")
    picture(tmp_path / "_0001.jpg")
    with pytest.raises(DatasetError, match=r"_0001\.jpg does not start with its plate text"):
        read_set(tmp_path)


def test_no_set_at_all(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no labelled picture"):
        read_set(tmp_path)
    with pytest.raises(DatasetError, match="is no folder"):
        read_set(tmp_path / "missing")


def test_relative_folder_has_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "AB12.jpg")
    monkeypatch.chdir(tmp_path)
    assert read_set(Path("."))[0].source == tmp_path.name
