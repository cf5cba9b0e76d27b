"""`lprnet read` in a process of its own. For tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def lprnet_read(*arguments, stdout=subprocess.PIPE, **options):
    return subprocess.run(
        [sys.executable, str(ROOT / "lprnet_cli.py"), "read", *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        **options,
    )
