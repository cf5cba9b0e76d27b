"""Reading the generator's TOML data files."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from lprnet.errors import LprnetError


class TomlError(LprnetError):
    """A data file that cannot be read or is not TOML."""


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dict.

    Raises:
        TomlError: unreadable, not UTF-8, or not TOML.
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TomlError(f"data file {path}: {error}") from error
    return values
