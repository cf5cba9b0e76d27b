"""`lprnet serve` ends when it is told to, whatever Python is doing at that moment."""

from __future__ import annotations

import os
import signal

import pytest

from serving.serve import Told


class Finalised:
    """Is told to end while it is being finalised."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # Python calls handlers between two steps of its own
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_python_drops_is_remembered() -> None:
    """Seen to fail with a handler that only raises: the server went on."""
    told = Told()
    before = signal.signal(signal.SIGINT, told)
    try:
        told.check()
        thing = Finalised()
        del thing  # "Exception ignored in ..."
        with pytest.raises(KeyboardInterrupt):
            told.check()
    finally:
        signal.signal(signal.SIGINT, before)
