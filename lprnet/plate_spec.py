"""What a set of weights reads: charset, blank, time steps and input size. Travels with them."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lprnet.charset import DEFAULT_CHARSET, Charset
from lprnet.errors import SpecError

SPEC_VERSION = 1
INPUT_CHANNELS = 3
INPUT_HEIGHT_PX = 48
INPUT_WIDTH_PX = 96


@dataclass(frozen=True)
class PlateSpec:
    """Contract between a network's output and the decoder.

    Attributes:
        charset: characters without the blank.
        blank: class id of the CTC blank, 0..len(charset). The characters take the other ids in
            charset order. -1 (default) means last, as in the reference.
        time_steps: T, length of the network's output sequence over all rows.
        rows: text rows whose sequences are joined top to bottom; T is a multiple of it.
        height_px, width_px: input crop; 48 x 96 in the reference.

    Raises:
        SpecError: for values that contradict one another.
    """

    charset: Charset = field(default=DEFAULT_CHARSET)
    blank: int = -1
    time_steps: int = 48
    rows: int = 2
    height_px: int = INPUT_HEIGHT_PX
    width_px: int = INPUT_WIDTH_PX

    def __post_init__(self) -> None:
        if self.blank == -1:
            object.__setattr__(self, "blank", len(self.charset))
        if not 0 <= self.blank <= len(self.charset):
            raise SpecError(
                f"blank {self.blank} is no class id: 0..{len(self.charset)} for a charset of "
                f"{len(self.charset)} characters"
            )
        for name in ("time_steps", "rows", "height_px", "width_px"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.time_steps % self.rows:
            raise SpecError(f"time_steps {self.time_steps} is not a multiple of rows {self.rows}")

    @property
    def classes(self) -> int:
        """Classes of the network: characters and the blank."""
        return len(self.charset) + 1

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one input, (C, H, W)."""
        return INPUT_CHANNELS, self.height_px, self.width_px

    @cached_property
    def class_texts(self) -> tuple[str, ...]:
        """The character of each class id; the blank's is the empty string."""
        characters = list(self.charset.characters)
        characters.insert(self.blank, "")
        return tuple(characters)

    @cached_property
    def class_characters(self) -> npt.NDArray[np.str_]:
        """`class_texts` as an array [classes]."""
        table = np.array(self.class_texts, dtype="<U1")
        table.setflags(write=False)
        return table

    def encode(self, text: str) -> npt.NDArray[np.int32]:
        """Text -> class ids [len(text)] INT32.

        Raises:
            SpecError: when the text has characters outside the charset.
        """
        unknown = self.charset.unknown(text)
        if unknown:
            raise SpecError(
                f"text {text!r} has characters outside the charset: {' '.join(unknown)}"
            )
        ids = np.array([self.charset.index[c] for c in text], dtype=np.int32)
        return ids + (ids >= self.blank).astype(np.int32)

    def min_time_steps(self, text: str) -> int:
        """Fewest time steps a CTC path of `text` needs: its length and one blank per repeat."""
        return len(text) + sum(a == b for a, b in itertools.pairwise(text))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `from_dict` reads it back."""
        return {
            "version": SPEC_VERSION,
            "characters": list(self.charset.characters),
            "blank": self.blank,
            "time_steps": self.time_steps,
            "rows": self.rows,
            "height_px": self.height_px,
            "width_px": self.width_px,
        }

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, ASCII. The digest is taken over it."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `to_json`, hexadecimal: equal digests mean equal specs."""
        return hashlib.sha256(self.to_json().encode("ascii")).hexdigest()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PlateSpec:
        """Read `to_dict`'s form.

        Raises:
            SpecError: for unknown or missing keys, wrong types or another version.
        """
        expected = set(cls().to_dict())
        if set(values) != expected:
            missing, unknown = expected - set(values), set(values) - expected
            raise SpecError(
                f"plate spec has missing keys {sorted(missing)} and unknown keys {sorted(unknown)}"
            )
        if values["version"] != SPEC_VERSION:
            raise SpecError(
                f"plate spec version {values['version']!r} is not {SPEC_VERSION}: "
                "export the weights again with this release"
            )
        numbers = {}
        for name in ("blank", "time_steps", "rows", "height_px", "width_px"):
            if not isinstance(values[name], int) or isinstance(values[name], bool):
                raise SpecError(f"plate spec: {name} must be a whole number, not {values[name]!r}")
            numbers[name] = values[name]
        if numbers["blank"] < 0:
            raise SpecError("plate spec: blank must be written as a class id, not negative")
        characters: Sequence[Any] = values["characters"]
        if not isinstance(characters, list) or not all(isinstance(c, str) for c in characters):
            raise SpecError("plate spec: characters must be a list of strings")
        return cls(charset=Charset(tuple(characters)), **numbers)

    @classmethod
    def from_json(cls, text: str) -> PlateSpec:
        """Read `to_json`'s form. Raises SpecError for anything else."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise SpecError(f"plate spec is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise SpecError("plate spec is not a JSON object")
        return cls.from_dict(values)

    @classmethod
    def from_file(cls, path: Path) -> PlateSpec:
        """Read a plate spec JSON file. Raises SpecError when it is missing or invalid."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"cannot read the plate spec {path.name}: {error}") from error
        return cls.from_json(text)


DEFAULT_SPEC = PlateSpec()
"""The shipped reader's spec: 36 characters, blank last, two row readers of 24 steps."""
