"""Wrong labels are found, right ones are left alone, and training takes the list."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from lprnet_cli import main
from training.checkpoint import load_checkpoint
from training.config import ConfigError
from training.data.records import Record, read_set
from training.data.relabel import Jury, Opinion, Thresholds, read_exclusions, write_exclusions
from training.shipped import SHIPPED
from training.synthetic import PlateGenerator
from training.train import wanted

PLATES = 6
WEIGHTS = SHIPPED
LENIENT = ("--min-agreement", "0.6", "--min-confidence", "0.5")
"""The shipped weights know few flat drawn plates with margins as wide as a mild view's."""


@pytest.fixture(scope="module")
def plates() -> list[tuple[str, np.ndarray]]:
    """Texts and pictures UINT8 [H, W, 3] RGB of plates that the reader has no doubt about."""
    generator = PlateGenerator(regions=["DE", "FR"], photography=False)
    drawn = [generator.sample(np.random.default_rng(i)) for i in range(4 * PLATES)]
    jury = Jury(load_checkpoint(WEIGHTS), views=1)
    answers = jury._decode(jury._logits(np.stack([jury._crop(plate.image) for plate in drawn])))
    sure = [
        (plate.text, plate.image)
        for plate, read, confidence in zip(drawn, *answers, strict=True)
        if read == plate.text and confidence > 0.95
    ]
    assert len(sure) >= PLATES
    return sure[:PLATES]


def write(root: Path, plates: list[tuple[str, np.ndarray]], labels: dict[int, str]) -> Path:
    """TAO set; `labels` by index take the place of the true ones."""
    (root / "image").mkdir(parents=True)
    (root / "label").mkdir()
    for index, (text, image) in enumerate(plates):
        picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        assert cv2.imwrite(str(root / "image" / f"{index}.png"), picture)
        (root / "label" / f"{index}.txt").write_text(labels.get(index, text))
    return root


def test_wrong_labels_are_listed_and_left_out(
    plates: list[tuple[str, np.ndarray]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = plates[1][0], plates[2][0]
    altered = first[:-1] + ("7" if first[-1] != "7" else "4")
    root = write(tmp_path / "set", plates, {1: altered, 2: second[:-1]})
    (root / "image" / "broken.png").write_bytes(b"\x89PNG")
    (root / "label" / "broken.txt").write_text("A1")
    listed, html = tmp_path / "out" / "wrong.tsv", tmp_path / "out" / "wrong.html"
    command = ["data", "relabel", str(root), "--weights", str(WEIGHTS), "--out", str(listed)]
    assert main([*command, "--html", str(html), *LENIENT]) == 0
    assert f"2 of {PLATES + 1} labels contradicted" in capsys.readouterr().out
    with listed.open(encoding="utf-8") as file:
        rows = {Path(row["file"]).stem: row for row in csv.DictReader(file, delimiter="\t")}
    assert {stem: (row["label"], row["read"]) for stem, row in rows.items()} == {
        "1": (altered, first),
        "2": (second[:-1], second),
    }
    assert all(float(row["margin"]) >= Thresholds().margin for row in rows.values())
    assert html.read_text().count("data:image/jpeg;base64,") == 2

    records = read_set(root)
    kept = wanted(records, [listed])
    assert [r for r in records if r not in kept] == [r for r in records if r.path.stem in "12"]
    assert "2 of 7 crops left out" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="names no crop of the training sets"):
        wanted([Record(tmp_path / "other.png", "A1", "", "s")], [listed])


def test_pseudo_labels_make_a_set_that_says_so(
    plates: list[tuple[str, np.ndarray]], tmp_path: Path
) -> None:
    folder = tmp_path / "unlabelled"
    (folder / "deeper").mkdir(parents=True)
    for index, (_, image) in enumerate(plates):
        place = folder / "deeper" if index % 2 else folder
        picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        assert cv2.imwrite(str(place / f"{index}.png"), picture)
    noise = np.random.default_rng(0).integers(0, 256, (48, 96, 3), dtype=np.uint8)
    assert cv2.imwrite(str(folder / "noise.png"), noise)
    out = tmp_path / "pseudo"
    command = ["data", "relabel", "--pseudo", str(folder), "--weights", str(WEIGHTS)]
    assert main([*command, "--out", str(out), *LENIENT]) == 0
    made = {r.path.stem: r for r in read_set(out)}
    assert len(made) >= PLATES / 2  # of what was read without a doubt as it is
    truth = {str(i): text for i, (text, _) in enumerate(plates)}
    assert {stem: r.text for stem, r in made.items()}.items() <= truth.items()  # no noise
    assert not any(r.trusted for r in made.values())
    assert {r.source for r in made.values()} == {"unlabelled"}


def test_margin_is_the_ratio_of_the_two_texts(
    plates: list[tuple[str, np.ndarray]], tmp_path: Path
) -> None:
    """With one view, margin and confidence follow from the network's own output."""
    root = write(tmp_path / "set", plates[:1], {0: plates[0][0][:-1]})
    (record,) = read_set(root)
    jury = Jury(load_checkpoint(WEIGHTS), views=1)
    (opinion,) = jury.opinions([record], "test")
    logits = jury._logits(jury._crop(plates[0][1])[np.newaxis])
    best = float(jury._log_p(logits, plates[0][0])[0])
    other = float(jury._log_p(logits, record.text)[0])
    assert opinion.margin == pytest.approx(best - other, rel=1e-5)
    assert math.exp(best) >= opinion.confidence * 0.5  # all paths of a text outweigh the best one
    assert opinion.agreement == 1.0
    cannot_write = Record(record.path, "ÄÖ", "", "s")
    (opinion,) = jury.opinions([cannot_write], "test")
    assert opinion.margin == math.inf


@pytest.mark.parametrize(
    ("agreement", "confidence", "margin", "met"),
    [(1.0, 0.75, 5.0, True), (0.99, 1, 9, False), (1, 0.74, 9, False), (1, 1, 4.9, False)],
)
def test_thresholds(agreement: float, confidence: float, margin: float, met: bool) -> None:
    record = Record(Path("a.png"), "A1", "", "s")
    assert (
        Thresholds(1.0, 0.75, 5.0).met(Opinion(record, "A2", agreement, confidence, margin)) is met
    )


def test_a_list_may_be_thinned_by_hand(tmp_path: Path) -> None:
    records = [Record(tmp_path / f"{i}.png", "A1", "", "s") for i in range(3)]
    opinions = [Opinion(r, "A2", 1.0, 0.9, 7.0) for r in records]
    listed = tmp_path / "wrong.tsv"
    write_exclusions(opinions, listed)
    assert read_exclusions(listed) == {r.path for r in records}
    lines = listed.read_text().splitlines()
    listed.write_text("\n".join([lines[0], lines[2], "2.png"]) + "\n")
    assert read_exclusions(listed) == {records[1].path, records[2].path}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "none.pt", "--out", "x.tsv"], "no checkpoint at none.pt"),
        (["--weights", "a", "--out", "x", "--min-confidence", "2"], "--min-confidence must be"),
        (["--weights", "a", "--out", "x", "--pseudo", "--html", "h"], "with --pseudo there are"),
    ],
)
def test_wrong_use_is_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "relabel", "missing", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_lists_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="cannot read the list of excluded crops"):
        read_exclusions(tmp_path / "none.tsv")
    bad = tmp_path / "bad.tsv"
    bad.write_text("name\nx\n")
    with pytest.raises(Exception, match="no column `file`"):
        read_exclusions(bad)
