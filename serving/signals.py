"""The signals that end a program in the foreground."""

from __future__ import annotations

import signal


def ending_signals() -> tuple[signal.Signals, ...]:
    """SIGINT, SIGTERM and SIGHUP; the last not where it is ignored, as `nohup` asks.

    To be asked before a handler is put in place.
    """
    ended_by = (signal.SIGINT, signal.SIGTERM)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return ended_by
    return (*ended_by, signal.SIGHUP)
