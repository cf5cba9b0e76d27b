"""Where rows go: a file or stdout."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TextIO

from clients.errors import ConfigurationError


def abandon_stdout() -> None:
    """Let what stdout still holds go nowhere: Python would fail to write it at the end again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def redirected_stdout() -> os.stat_result | None:
    """The file that the shell sends stdout to; None for a terminal, a pipe, a device."""
    try:
        found = os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):  # closed, or not of the operating system
        return None
    return found if stat.S_ISREG(found.st_mode) else None


class Output:
    """A file, or stdout, as a stream that `open_writer` takes; every line is handed on at once.

    Args:
        path: the file, or None for stdout.
        append: keep what the file holds.
        opened: is called with the file's descriptor before anything in it is changed.

    Raises:
        ConfigurationError: when the file cannot be written; what `opened` raises.
    """

    stream: TextIO

    def __init__(
        self,
        path: Path | None,
        *,
        append: bool = False,
        opened: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._path = path
        if path is None:
            self.stream = sys.stdout
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(
                    encoding="utf-8", errors="surrogateescape", newline="", line_buffering=True
                )
        else:
            try:
                self.stream = open(  # noqa: SIM115 - closed by __exit__
                    path,
                    "a",
                    buffering=1,
                    encoding="utf-8",
                    errors="surrogateescape",
                    newline="",
                )
            except OSError as error:
                raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
            try:
                opened(self.stream.fileno())
                if not append and stat.S_ISREG(os.fstat(self.stream.fileno()).st_mode):
                    self.stream.truncate(0)
            except BaseException:
                self.stream.close()
                raise

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._path is None:
                self.stream.flush()
            else:
                self.stream.close()
        except OSError:
            if error is None:  # else it is told already what went wrong
                raise
