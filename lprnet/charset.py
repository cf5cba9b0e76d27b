"""The characters a recogniser can write, as data: an ordered list without the CTC blank."""

from __future__ import annotations

import string
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lprnet.errors import SpecError


@dataclass(frozen=True)
class Charset:
    """Ordered characters of a plate alphabet.

    Attributes:
        characters: each exactly one code point, no duplicates, no white space. The position is
            the *character index*; class ids of the network follow from it and from the blank
            (`lprnet.plate_spec.PlateSpec`).

    Raises:
        SpecError: for an empty list, a duplicate, white space or an entry of several code points.
    """

    characters: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.characters:
            raise SpecError("the charset is empty: name at least one character")
        for character in self.characters:
            if len(character) != 1 or character.isspace() or not character.isprintable():
                raise SpecError(
                    f"charset entry {character!r} is not one visible character: "
                    "write one character a line"
                )
        if len(set(self.characters)) != len(self.characters):
            twice = sorted({c for c in self.characters if self.characters.count(c) > 1})
            raise SpecError(f"charset names {twice} twice: every character stands once")

    def __len__(self) -> int:
        return len(self.characters)

    def __contains__(self, character: object) -> bool:
        return character in self.index

    @cached_property
    def index(self) -> dict[str, int]:
        """Character -> character index."""
        return {character: i for i, character in enumerate(self.characters)}

    @classmethod
    def from_text(cls, characters: str) -> Charset:
        """`"0123AB"` -> a charset of its characters in that order."""
        return cls(tuple(characters))

    @classmethod
    def from_file(cls, path: Path) -> Charset:
        """Read a TAO characters file: UTF-8, one character a line, blank lines ignored.

        A byte order mark, which Windows editors put in front, is no character.

        Raises:
            SpecError: when the file cannot be read as such a list.
        """
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"cannot read the characters file {path.name}: {error}") from error
        return cls(tuple(line.strip() for line in lines if line.strip()))

    def unknown(self, text: str) -> list[str]:
        """Characters of `text` that are not in the charset, each once, sorted."""
        return sorted({c for c in text if c not in self.index})

    def never_in_labels(self) -> list[str]:
        """Characters that `normalise_text` leaves in no text, in the charset's order."""
        return [c for c in self.characters if normalise_text(c) != c]


DEFAULT_CHARSET = Charset.from_text(string.digits + string.ascii_uppercase)
"""0-9 A-Z: 36 characters."""

TAO_US_CHARSET = Charset.from_text(
    string.digits + "".join(c for c in string.ascii_uppercase if c != "O")
)
"""The 35 characters of TAO's US model, which has no letter O."""


def normalise_text(text: str) -> str:
    """Plate text as it is compared: upper case, diacritics folded, separators dropped.

    Keeps letters and digits of any script (`Ä` -> `A`, `ß` -> `SS`, `Й` -> `И`), so that
    ``"M-ÜK 12"`` and ``"MUK12"`` are equal; spaces, dashes, dots and bullets never count. Korean
    syllables stay whole.
    """
    decomposed = unicodedata.normalize("NFKD", text.upper())
    kept = "".join(c for c in decomposed if c.isalnum())  # combining marks are no letters
    return unicodedata.normalize("NFC", kept)  # what is left in parts is a syllable


_FOLD = str.maketrans("OI", "01")


def fold_lookalikes(text: str) -> str:
    """Text with O read as 0 and I as 1, for the *folded* score (labels mix them)."""
    return text.translate(_FOLD)
