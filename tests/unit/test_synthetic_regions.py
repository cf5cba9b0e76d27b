"""Every region file: parses, draws only what the charset holds, and refuses unknown keys."""

from __future__ import annotations

import string
from pathlib import Path
from random import Random

import pytest

from training.synthetic.generator import draw_serial
from training.synthetic.grammar import text_of
from training.synthetic.spec import REGIONS_DIR, RegionError, load_region, load_regions

REGIONS = load_regions()
CHARSET = set(string.digits + string.ascii_uppercase)
STATES = (  # noqa: SIM905 - one name a line would be a page
    "AL AK AZ AR CA CO CT DC DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ "
    "NM NY NC ND OH OK OR PA RI SC SD TN TX UT VT VA WA WV WI WY"
).split()


def test_the_promised_regions_are_there() -> None:
    assert sum(region.group == "europe" for region in REGIONS.values()) >= 40
    assert {f"US-{state}" for state in STATES} <= set(REGIONS)
    assert {"BR", "AR", "MX", "CA", "AU", "IN", "TR", "UA", "IL", "ZA"} <= set(REGIONS)


@pytest.mark.parametrize("code", sorted(REGIONS))
def test_serials_stay_in_the_charset_and_have_sane_lengths(code: str) -> None:
    region = REGIONS[code]
    rnd = Random(7)
    for style in region.styles.values():
        for _ in range(60):
            tokens = draw_serial(region, style, rnd)
            text = text_of(tokens)
            assert set(text) <= CHARSET, text
            assert 1 <= len(text) <= 10, text
            rows = [token.row for token in tokens]
            assert rows == sorted(rows)
            assert rows[0] == 0


def drawn_letters(code: str, style: str) -> set[str]:
    region = REGIONS[code]
    rnd = Random(11)
    texts = [text_of(draw_serial(region, region.styles[style], rnd)) for _ in range(800)]
    return {char for text in texts for char in text if char.isalpha()}


@pytest.mark.parametrize(
    ("code", "style", "never"),
    [
        ("ES", "car", "AEIOUQ"),
        ("GB", "car", "IQ"),
        ("NL", "car", "AEIOUCMQ"),
        ("FR", "car", "IOU"),
        ("UA", "car", "DFGJLNQRSUVWYZ"),
        ("GR", "car", "CDFGJLQRSUVW"),
        ("IT", "car", "IOQU"),
        ("BA", "car", "BCDFGHILN"),
        ("SE", "car", "IQV"),
    ],
)
def test_letters_a_country_never_uses_do_not_appear(code: str, style: str, never: str) -> None:
    assert drawn_letters(code, style).isdisjoint(never)


MINIMAL = """
code = "QQ"
name = "Nowhere"
group = "rest"
[styles.car]
size_mm = [520, 110]
serials = { "@@ ###" = 1 }
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "QQ.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_minimal_file_is_enough(tmp_path: Path) -> None:
    region = load_region(write(tmp_path, MINIMAL))
    assert list(region.styles) == ["car"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('colour_of_sky = "blue"', "unknown key colour_of_sky"),
        ('bands = [{ txt = "D" }]', "unknown key txt"),
        ('decor = [{ kind = "text", at = [0.5, 0.5], size = 3 }]', "unknown key size"),
        ('colours = { "white/nosuch" = 1 }', "nosuch"),
        ("fonts = { nosuch = 1 }", "nosuch"),
        ('seal = "nosuch"', "nosuch"),
        ('decor = [{ kind = "nosuch", at = [0.5, 0.5] }]', "nosuch"),
        ("size_mm = 3", "size_mm"),
    ],
)
def test_mistakes_in_a_style_are_named(tmp_path: Path, change: str, message: str) -> None:
    text = MINIMAL if "size_mm" not in change else MINIMAL.replace("size_mm = [520, 110]\n", "")
    with pytest.raises(RegionError, match=message):
        load_region(write(tmp_path, text + change + "\n"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('group = "rest"', 'group = "mars"', "group must be one of"),
        ('name = "Nowhere"', "", "missing name"),
        ('name = "Nowhere"', 'name = "Nowhere"\ncapital = "X"', "unknown key capital"),
        ("size_mm = [520, 110]", "", "size_mm"),
        ("code =", "code", "TOML|Expected|expected"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(RegionError, match=message):
        load_region(write(tmp_path, MINIMAL.replace(old, new)))


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RegionError, match="no region files"):
        load_regions(tmp_path)


def test_every_file_is_named_after_its_code() -> None:
    assert {path.stem for path in REGIONS_DIR.glob("*.toml")} == set(REGIONS)
