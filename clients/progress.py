"""Counting rows for a person: a bar with rate and time left, and a summary."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Shown on stderr.

    Args:
        begin_s: `time.monotonic()` when the work began.
        total: rows in all, or None when nobody knows.
        done: rows of an earlier run.
        bar: draw a bar.
        summary: print one line at the end.
        unit: what a row stands for, "file" or "track".

    Attributes:
        count, errors: rows of this run, and those with an error.
    """

    def __init__(
        self,
        begin_s: float,
        *,
        total: int | None,
        done: int,
        bar: bool,
        summary: bool,
        unit: str = "file",
    ) -> None:
        self.count = 0
        self.errors = 0
        self._summary = summary
        self._begin_s = begin_s
        self._unit = unit
        self._bar = tqdm(
            total=total, initial=done, unit=f" {unit}s", smoothing=0.05, disable=not bar
        )

    def add(self, *, failed: bool = False) -> None:
        """Tell of a row."""
        self.count += 1
        self.errors += failed
        self._bar.update()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        if self._summary and self.count:
            elapsed_s = time.monotonic() - self._begin_s
            units = self._unit if self.count == 1 else f"{self._unit}s"
            print(
                f"{self.count:,} {units}, {self.errors:,} with errors, in {elapsed_s:.1f} s "
                f"({self.count / elapsed_s:,.0f} a second)",
                file=sys.stderr,
            )
