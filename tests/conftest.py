"""What holds for every test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from unittest.mock import patch

import pytest


def pytest_configure() -> None:
    """Let Ctrl-C work in the programs that tests start.

    A test run in the background of a shell is told to ignore SIGINT, and would hand that down.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """What `lprnet_cli.main` chooses for one verb's process must not reach the next test's."""
    with patch.dict(os.environ):
        yield
