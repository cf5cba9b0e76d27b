"""Files that programs write: none may replace what it is made of."""

from __future__ import annotations

from pathlib import Path

from lprnet.errors import LprnetError


def refuse_to_overwrite(out: Path, *inputs: Path | None) -> None:
    """Raise LprnetError when `out` is one of the inputs, through whatever link or spelling."""
    for path in inputs:
        if path is None:
            continue
        same = path.absolute() == out.absolute()
        if same or (out.exists() and path.exists() and out.samefile(path)):
            raise LprnetError(f"{out} would replace {path}, which it is made of: name another file")
