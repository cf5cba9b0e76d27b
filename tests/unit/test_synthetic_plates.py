"""Rendered plates: reproducible, and their boxes and corners are where the characters are."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from lprnet.errors import LprnetError
from lprnet_cli import main
from training.synthetic import PlateGenerator, SyntheticPlate
from training.synthetic.fonts import FontError, default_font_dirs, find_fonts
from training.synthetic.spec import RegionError
from training.synthetic.writer import SetRecipe, write_preview, write_set


def fonts_are_installed() -> bool:
    try:
        find_fonts(default_font_dirs())
    except FontError:
        return False
    return True


pytestmark = pytest.mark.skipif(
    not fonts_are_installed(), reason="no fonts installed: run scripts/fetch_fonts.sh"
)


@pytest.fixture(scope="module")
def flat() -> PlateGenerator:
    return PlateGenerator(photography=False)


@pytest.fixture(scope="module")
def photo() -> PlateGenerator:
    return PlateGenerator(photography=True)


def same(one: SyntheticPlate, other: SyntheticPlate) -> bool:
    return (
        one.text == other.text
        and np.array_equal(one.image, other.image)
        and np.array_equal(one.char_boxes, other.char_boxes)
        and np.array_equal(one.plate_quad, other.plate_quad)
    )


def test_a_seed_gives_the_same_plate_whatever_was_drawn_before(photo: PlateGenerator) -> None:
    seeds = list(range(25))
    first = {seed: photo.sample(np.random.default_rng(seed)) for seed in seeds}
    fresh = PlateGenerator(photography=True)
    second = {seed: fresh.sample(np.random.default_rng(seed)) for seed in reversed(seeds)}
    assert all(same(first[seed], second[seed]) for seed in seeds)
    assert not same(first[0], first[1])


def check(plate: SyntheticPlate) -> None:
    height, width = plate.image.shape[:2]
    assert plate.image.dtype == np.uint8
    assert plate.image.shape[2] == 3
    assert len(plate.text) == len(plate.char_boxes) == len(plate.char_rows)
    assert plate.char_boxes.dtype == np.float32
    assert plate.plate_quad.shape == (4, 2)
    boxes = plate.char_boxes
    assert (boxes >= 0).all()
    assert (boxes[:, [0, 2]] <= width).all()
    assert (boxes[:, [1, 3]] <= height).all()
    assert plate.rows == plate.char_rows.max() + 1
    assert (np.diff(plate.char_rows.astype(int)) >= 0).all()


@pytest.mark.parametrize("fixture", ["flat", "photo"])
def test_every_region_draws_plates_with_sound_boxes(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    generator: PlateGenerator = request.getfixturevalue(fixture)
    rng = np.random.default_rng(3)
    for code in generator.regions:
        for _ in range(2):
            check(generator.sample(rng, code))


def test_flat_boxes_are_in_reading_order_on_the_plate(flat: PlateGenerator) -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        plate = flat.sample(rng)
        left, top = plate.plate_quad[0]
        right, bottom = plate.plate_quad[2]
        boxes = plate.char_boxes
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        assert (centres[:, 0] > left).all()
        assert (centres[:, 0] < right).all()
        assert (centres[:, 1] > top).all()
        assert (centres[:, 1] < bottom).all()
        for row in range(plate.rows):
            line = boxes[plate.char_rows == row]
            # a stacked pair stands in one column, so its left edges may cross
            assert (np.diff(line[:, 2]) > -0.5 * (line[:, 2] - line[:, 0])[1:]).all()
        if plate.rows == 2:
            upper, lower = centres[plate.char_rows == 0], centres[plate.char_rows == 1]
            assert upper[:, 1].max() < lower[:, 1].min()


def test_of_a_stacked_pair_the_upper_letter_is_typed_first(flat: PlateGenerator) -> None:
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(300):
        plate = flat.sample(rng, "US-NC")
        boxes = plate.char_boxes
        for one, two in pairwise(boxes):
            if plate.rows == 1 and one[3] <= two[1] + 1 and abs(one[0] - two[0]) < 8:
                found += 1
                assert one[1] < two[1]
    assert found > 10


def test_ink_is_where_the_boxes_say(flat: PlateGenerator) -> None:
    """Inside a box there is more contrast than in the gap beside the serial."""
    rng = np.random.default_rng(6)
    higher = 0
    for _ in range(100):
        plate = flat.sample(rng, "NL")
        grey = cv2.cvtColor(plate.image, cv2.COLOR_RGB2GRAY)
        spreads = [
            float(grey[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1].std())
            for x0, y0, x1, y1 in plate.char_boxes
        ]
        higher += min(spreads) > 8
    assert higher >= 90


def test_the_mix_follows_the_weights() -> None:
    generator = PlateGenerator(mix={"us": 3.0, "rest": 1.0})
    weights = generator.region_weights
    assert sum(weights.values()) == pytest.approx(1.0)
    us = sum(weight for code, weight in weights.items() if code.startswith("US-"))
    assert us == pytest.approx(0.75)
    assert weights["DE"] == 0.0


def test_unknown_regions_and_groups_are_refused(flat: PlateGenerator) -> None:
    with pytest.raises(RegionError, match="unknown region 'XX'"):
        PlateGenerator(regions=["XX"])
    with pytest.raises(RegionError, match="unknown region 'XX'"):
        flat.sample(np.random.default_rng(0), "XX")
    with pytest.raises(RegionError, match="unknown group mars"):
        PlateGenerator(mix={"mars": 1.0})


def test_a_folder_without_fonts_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FontError, match=r"fetch_fonts\.sh"):
        PlateGenerator(fonts_dir=tmp_path)


def test_written_sets_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    recipe = SetRecipe(seed=5, regions=("DE", "US-NY"), photography=True, fonts_dir=None)
    write_set(tmp_path / "one", 40, recipe, workers=1)
    write_set(tmp_path / "two", 40, recipe, workers=2)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 81
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    lines = (tmp_path / "one/manifest.tsv").read_text().splitlines()
    header = lines[0].split("\t")
    for line in lines[1:]:
        row = dict(zip(header, line.split("\t"), strict=True))
        label = tmp_path / "one/label" / (Path(row["file"]).stem + ".txt")
        assert label.read_text().strip() == row["text"]
    write_preview(tmp_path / "sheet.png", tmp_path / "one", 40)
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None


def test_a_set_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    recipe = SetRecipe(seed=0, regions=("DE",), photography=False, fonts_dir=None)
    with pytest.raises(LprnetError, match="not an empty folder"):
        write_set(tmp_path, 1, recipe, workers=1)


def test_a_preview_of_no_kind_of_picture_is_told_before_plates_are_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen to fail: the whole set was drawn first."""
    arguments = ["--count", "2", "--out", str(tmp_path / "set"), "--workers", "1"]
    assert main(["synth", *arguments, "--preview", str(tmp_path / "p.txt")]) == 2
    assert "p.txt: use a name that ends in .png or .jpg" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_sets_and_previews_that_cannot_be_written(tmp_path: Path) -> None:
    recipe = SetRecipe(seed=0, regions=("DE",), photography=False, fonts_dir=None)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(LprnetError, match=r"cannot write .*: Not a directory"):
        write_set(file / "set", 1, recipe, workers=1)
    write_set(tmp_path / "set", 1, recipe, workers=1)
    with pytest.raises(LprnetError, match=r"cannot write .*: File exists"):
        write_preview(file / "sheet.png", tmp_path / "set", 1)
