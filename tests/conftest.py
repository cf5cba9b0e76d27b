"""What holds for every test."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Let Ctrl-C work in the programs that tests start.

    A test run in the background of a shell is told to ignore SIGINT, and would hand that down.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
