"""Made-up words: vanity plates, dealer names and phone numbers. Nobody's real data."""

from __future__ import annotations

import string
from functools import lru_cache
from pathlib import Path
from random import Random

from training.synthetic.toml import read_toml

_DIGITS = string.digits
_LETTERS = string.ascii_uppercase


@lru_cache(maxsize=1)
def word_lists() -> dict[str, list[str]]:
    """The lists of words.toml."""
    raw = read_toml(Path(__file__).parent / "words.toml")
    return {key: str(value).split() for key, value in raw.items()}


def vanity_word(rnd: Random, low: int, high: int) -> str:
    """A vanity text of low..high characters A-Z 0-9: words, syllables, letters, initials."""
    length = rnd.randint(low, high)
    kind = rnd.random()
    if kind < 0.3:
        return "".join(rnd.choices(_LETTERS, k=length))
    if kind < 0.4:
        return "".join(rnd.choices(_LETTERS + _DIGITS, k=length))
    if kind < 0.6:
        letters = rnd.randint(1, length)
        return _syllables(rnd, letters) + "".join(rnd.choices(_DIGITS, k=length - letters))
    if kind < 0.8:
        return _syllables(rnd, length)
    text = ""
    while len(text) < length:
        text += rnd.choice(word_lists()["words"])
    return text[:length]


def dealer_line(rnd: Random) -> str:
    """A line such as stands on a plate frame: a dealer, a phone number, a web address."""
    return rnd.choice(_dealer_lines())


@lru_cache(maxsize=1)
def _dealer_lines() -> tuple[str, ...]:
    """A fixed pool, so that drawn captions can be kept."""
    rnd = Random(77)
    return tuple(_make_dealer_line(rnd) for _ in range(500))


def _make_dealer_line(rnd: Random) -> str:
    kind = rnd.random()
    name = _syllables(rnd, rnd.randint(4, 8))
    if kind < 0.25:
        return f"{rnd.randint(200, 999)}-{rnd.randint(200, 999)}-{rnd.randint(1000, 9999)}"
    if kind < 0.4:
        return f"www.{name.lower()}{rnd.choice(word_lists()['web_ends'])}"
    dealer = rnd.choice(word_lists()["dealers"])
    if kind < 0.55:
        return f"{dealer} {name}"
    line = f"{name} {dealer}"
    return line if kind < 0.8 else line.title()


def _syllables(rnd: Random, length: int) -> str:
    lists = word_lists()
    text = ""
    while len(text) < length:
        text += rnd.choice(lists["onsets"]) + rnd.choice(lists["vowels"])
        if rnd.random() < 0.75:
            text += rnd.choice(lists["codas"])
    return text[:length]
