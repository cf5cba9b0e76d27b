"""Reading TOML on every Python that we support."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lprnet.errors import LprnetError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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
