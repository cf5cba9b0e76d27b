"""The pattern language of serials, and the label rule for small letters."""

from __future__ import annotations

from random import Random

import pytest

from training.synthetic.grammar import Alphabet, GrammarError, expand, parse, text_of
from training.synthetic.words import vanity_word

ALPHABET = Alphabet("BCD", "0123456789", {"area": ["MÜ", "ČK"], "one": ["X"]})


def draw(pattern: str, seed: int = 0) -> tuple[str, list[int], list[str]]:
    tokens = expand(parse(pattern, ALPHABET), ALPHABET, Random(seed))
    chars = [token for token in tokens if token.kind == "char"]
    return text_of(tokens), [t.row for t in chars], [t.size for t in chars]


@pytest.mark.parametrize(
    ("pattern", "text", "rows", "sizes"),
    [
        ("AB12", "AB12", [0, 0, 0, 0], ["full"] * 4),
        ("A-1 B.2:C~3!D", "A1B2C3D", [0] * 7, ["full"] * 7),  # separators are drawn, not typed
        ("AB|12", "AB12", [0, 0, 1, 1], ["full"] * 4),  # top line, then bottom line
        ("1<AB>2", "1AB2", [0] * 4, ["full", "upper", "lower", "full"]),  # upper one first
        ("12(AB)", "12AB", [0] * 4, ["full", "full", "small", "small"]),
        ("{one}|<BC>7", "XBC7", [0, 1, 1, 1], ["full", "upper", "lower", "full"]),
    ],
)
def test_pattern_becomes_label(pattern: str, text: str, rows: list[int], sizes: list[str]) -> None:
    assert draw(pattern) == (text, rows, sizes)


def test_wildcards_keep_to_the_alphabet() -> None:
    for seed in range(200):
        text, _, _ = draw("@#%*[XY]{#2-4}{@1-2}", seed)
        assert text[0] in "BCD"
        assert text[1].isdigit()
        assert text[2] in "123456789"
        assert text[3] in "BCD0123456789"
        assert text[4] in "XY"
        digits = text[5:].rstrip("BCD")
        assert 2 <= len(digits) <= 4
        assert digits[0] != "0"
        assert 1 <= len(text[5:]) - len(digits) <= 2


def test_diacritics_are_drawn_but_not_typed() -> None:
    tokens = expand(parse("{area}", ALPHABET), ALPHABET, Random(1))
    assert text_of(tokens) in ("MU", "CK")
    assert "".join(token.glyph for token in tokens) in ("MÜ", "ČK")


@pytest.mark.parametrize("pattern", ["", "<AB", "AB>", "(A|B)", "{nolist}", "a", "{#x}", "<(A)>"])
def test_bad_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(GrammarError, match="serial pattern"):
        parse(pattern, ALPHABET)


def test_vanity_words_have_the_asked_length() -> None:
    rnd = Random(3)
    lengths = set()
    for _ in range(500):
        word = vanity_word(rnd, 1, 8)
        assert word.isascii()
        assert word.isalnum()
        assert word == word.upper()
        lengths.add(len(word))
    assert lengths == set(range(1, 9))


def test_lookalikes_come_more_often_than_by_chance() -> None:
    full = Alphabet("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", {})
    steps = parse("@" * 8 + "#" * 8, full)
    texts = [text_of(expand(steps, full, Random(seed))) for seed in range(500)]
    letters = "".join(text[:8] for text in texts)
    digits = "".join(text[8:] for text in texts)
    assert sum(letters.count(c) for c in "OIQ") / len(letters) > 1.5 * 3 / 26
    assert sum(digits.count(c) for c in "01") / len(digits) > 1.3 * 2 / 10
    assert set(letters) == set(full.letters)
    assert set(digits) == set(full.digits)
