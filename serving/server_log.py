"""tritonserver's log: read without pause, the end of it kept, chosen lines passed on."""

from __future__ import annotations

import re
import sys
import threading
from collections import deque
from typing import IO, Final

from serving.options import LOG_LEVELS

_LINE: Final = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ([VIWEF]) ")
_RANK: Final = {"V": 0, "I": 1, "W": 2, "E": 3, "F": 3}
_FAILED: Final = re.compile(r"failed to load '(\w+)' version \d+: (.*?)\"?$")
_ENGINE: Final = re.compile(r"\"engine: (.*)\"$")
_DRAINED: Final = "All models are stopped, unloading models"
# Without a GPU tritonserver calls these errors; they are none.
_NO_GPU: Final = (
    "CUDA driver version is insufficient",
    "CudaDriverHelper has not been",
    "failed to allocate pinned system memory",
)
KEPT_LINES: Final = 500


class ServerLog:
    """Reads a stream to its end on a thread of its own.

    Args:
        stream: the server's output.
        level: least severe lines that go to standard error, one of `LOG_LEVELS`.
        gpu: whether complaints about a missing GPU mean something.
    """

    def __init__(self, stream: IO[str], level: str, *, gpu: bool) -> None:
        self._stream = stream
        self._least = LOG_LEVELS.index(level)
        self._gpu = gpu
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._thread = threading.Thread(target=self._read, name="server-log", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        passing = False
        for line in self._stream:
            self._lines.append(line.rstrip("\n"))
            match = _LINE.match(line)
            if match is not None:  # other lines belong to the one before
                harmless = not self._gpu and any(text in line for text in _NO_GPU)
                passing = _RANK[match[1]] >= self._least and not harmless
            if passing:
                sys.stderr.write(line)

    def close(self) -> None:
        """Wait for the end of the stream: the server has ended."""
        self._thread.join(timeout=5)
        self._stream.close()

    def tail(self, count: int = 10) -> list[str]:
        """The last lines."""
        return list(self._lines)[-count:]

    def engine(self) -> str | None:
        """What the CPU engine said of itself at load."""
        found = [match[1] for line in list(self._lines) if (match := _ENGINE.search(line))]
        return found[-1] if found else None

    def drained(self) -> bool:
        """Whether the server has answered its last request and only unloads."""
        return any(_DRAINED in line for line in list(self._lines))

    def load_failure(self) -> str | None:
        """`MODEL: reason` of the first model that did not load."""
        for line in list(self._lines):
            match = _FAILED.search(line)
            if match is not None:
                reason = re.sub(r"^(?:\w+: )*(?:TritonModelException: )?", "", match[2])
                return f"{match[1]}: {reason}"
        return None
