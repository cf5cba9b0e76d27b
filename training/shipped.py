"""Which weights this project ships. No torch: the command line asks before it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SHIPPED: Final = Path(__file__).parent / "weights" / "small.pt"


def named_weights(name: str) -> Path:
    """Checkpoint that a user names: a path, or "shipped" for the weights in the repository."""
    return SHIPPED if name == "shipped" else Path(name)
