"""What is started and stopped: the part that a server and its watchdog share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Service(ABC):
    """A context manager: started when it is entered, stopped when it is left, however."""

    @abstractmethod
    def start(self) -> None:
        """Begin to serve; where that fails nothing is left running."""

    @abstractmethod
    def stop(self) -> None:
        """End what runs; once more is no error."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
