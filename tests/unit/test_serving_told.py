"""`lprnet serve` ends when it is told to, whatever Python is doing at that moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# In a process of its own: an exception that Python drops there concerns nobody else.
PROGRAM = """
import os, signal
from serving.serve import Told

class Finalised:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):  # Python calls handlers between two steps of its own
            pass

told = Told()
signal.signal(signal.SIGTERM, told)
told.check()
thing = Finalised()
del thing  # Exception ignored in ...
print("dropped", flush=True)
try:
    told.check()
except KeyboardInterrupt:
    print("remembered", flush=True)
"""


def test_a_signal_that_python_drops_is_remembered() -> None:
    """Seen to fail with a handler that only raises: the server went on."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout.split() == ["dropped", "remembered"], ran.stderr
    assert ran.returncode == 0
