"""Serial grammar: a pattern in one line becomes the tokens that stand on a plate.

Pattern language (used by the keys of `serials` in the region files):

    A-Z 0-9   themselves
    @         a letter that the region uses        #   a digit
    %         a digit from 1 to 9                  *   a letter or a digit
    {name}    an entry of the region's list `name` (may hold several characters)
    {#2-4}    a number of 2 to 4 digits that does not start with 0
    {@1-2}    1 to 2 letters                       {vanity:2-7}  a made-up word of 2 to 7
    [ABC]     one of these characters
    <xy>      x small above y, stacked             (x)  x small, on the line
    space - . :     gap, dash, dot, bullet; drawn, never typed
    _         a gap that takes all room that is left on the line
    ~         a narrow gap                         !    the style's seal or emblem
    |         the second line starts

The label rule for small letters: they are typed where they stand in reading order, and of a
stacked pair the upper one first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from lprnet.errors import LprnetError
from training.synthetic.fonts import fold
from training.synthetic.words import vanity_word

_TOKEN = re.compile(
    r"\{(?P<braces>[^{}]+)\}|\[(?P<set>[A-Z0-9]+)\]|(?P<mark>[<>()|])|(?P<char>[A-Z0-9])"
    r"|(?P<wild>[@#%*])|(?P<sep>[ \-.:~!_])"
)
_NUMBER = re.compile(r"(?P<kind>#|@|\*|vanity:)(?P<low>\d+)(?:-(?P<high>\d+))?")
_DIGITS = "0123456789"
_TWIN_SHARE = 0.12
"""How often a wildcard repeats its neighbour, on top of chance: twins are what CTC loses first."""
_ALIKE_SHARE = 0.12
"""How often a wildcard draws one of `_ALIKE`, on top of chance: only a country's rules tell those
apart, and rules are learnt from the serials that need them."""
_ALIKE = {"@": "OIQ", "#": "01", "*": "OIQ01"}


class GrammarError(LprnetError):
    """A serial pattern that cannot be read."""


@dataclass(frozen=True)
class Token:
    """One thing on a plate's line.

    Attributes:
        kind: "char", or a separator: one of space - . : ~ ! _
        text: the character for kind "char", else empty.
        size: "full", "small" (on the line), "upper" or "lower" (a stacked pair).
        row: 0 or 1.
        glyph: what is drawn, with its diacritic; the label in `text` is folded (Ü -> U).
    """

    kind: str
    text: str
    size: str
    row: int
    glyph: str = ""


@dataclass(frozen=True)
class Alphabet:
    """What a region's wildcards stand for."""

    letters: str
    digits: str
    lists: Mapping[str, Sequence[str]]


def parse(pattern: str, alphabet: Alphabet) -> list[tuple[str, str]]:
    """Split a pattern into (kind, argument) steps.

    Raises:
        GrammarError: an unknown sign, list or unbalanced small mark.
    """
    steps: list[tuple[str, str]] = []
    position = 0
    opened = ""
    while position < len(pattern):
        match = _TOKEN.match(pattern, position)
        if match is None:
            raise GrammarError(f"serial pattern {pattern!r}: cannot read {pattern[position:]!r}")
        kind = str(match.lastgroup)
        value = match.group(kind)
        if kind == "braces":
            number = _NUMBER.fullmatch(value)
            if number is None and not alphabet.lists.get(value):
                raise GrammarError(f"serial pattern {pattern!r}: no list named {value!r}")
        if kind == "mark":
            if value in "<(" and opened == "":
                opened = value
            elif opened + value in ("<>", "()"):
                opened = ""
            elif value != "|" or opened:
                raise GrammarError(f"serial pattern {pattern!r}: {value!r} is out of place")
        steps.append((kind, value))
        position = match.end()
    if opened or not steps:
        raise GrammarError(f"serial pattern {pattern!r} is empty or {opened!r} is not closed")
    return steps


def expand(steps: Sequence[tuple[str, str]], alphabet: Alphabet, rnd: Random) -> list[Token]:
    """Draw one serial from parsed steps."""
    tokens: list[Token] = []
    row = 0
    size = "full"
    before = ("", "")  # wildcard and what it drew, if it was the last step
    for kind, value in steps:
        if kind == "mark":
            if value == "|":
                row = 1
            else:
                size = {"<": "upper", "(": "small"}.get(value, "full")
        elif kind == "sep":
            tokens.append(Token(value, "", size, row))
        else:
            twin = kind == "wild" and before[0] == value and rnd.random() < _TWIN_SHARE
            drawn = before[1] if twin else _draw(kind, value, alphabet, rnd)
            before = (value if kind == "wild" else "", drawn)
            for char in drawn:
                if char in " -.:~!_":
                    tokens.append(Token(char, "", size, row))
                    continue
                tokens.append(Token("char", fold(char), size, row, char))
                if size == "upper":
                    size = "lower"
    return tokens


def text_of(tokens: Sequence[Token]) -> str:
    """The label: the characters in the order in which they stand."""
    return "".join(token.text for token in tokens)


def _draw(kind: str, value: str, alphabet: Alphabet, rnd: Random) -> str:
    if kind == "char":
        return value
    if kind == "set":
        return rnd.choice(value)
    if kind == "wild":
        return _wild(value, alphabet, rnd)
    number = _NUMBER.fullmatch(value)
    if number is None:
        return rnd.choice(alphabet.lists[value])
    low = int(number["low"])
    high = int(number["high"]) if number["high"] is not None else low
    if number["kind"] == "vanity:":
        return vanity_word(rnd, low, high)
    length = rnd.randint(low, high)
    first = "123456789" if number["kind"] == "#" else ""
    drawn = rnd.choice(first) if first else _wild(number["kind"], alphabet, rnd)
    while len(drawn) < length:
        twin = rnd.random() < _TWIN_SHARE
        drawn += drawn[-1] if twin else _wild(number["kind"], alphabet, rnd)
    return drawn


def _wild(sign: str, alphabet: Alphabet, rnd: Random) -> str:
    if sign in _ALIKE and rnd.random() < _ALIKE_SHARE:
        alike = [c for c in _ALIKE[sign] if c in alphabet.letters + alphabet.digits]
        if alike:
            return rnd.choice(alike)
    if sign == "#":
        return rnd.choice(alphabet.digits)
    if sign == "%":
        return rnd.choice("123456789")
    if sign == "@":
        return rnd.choice(alphabet.letters)
    return rnd.choice(alphabet.letters + alphabet.digits)
