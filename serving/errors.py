"""Errors of starting and running a server, each with what to do about it."""

from __future__ import annotations

from typing import Literal

from lprnet.errors import LprnetError

ProbeFailure = Literal["error", "wrong", "timeout", "overloaded"]


class ServingError(LprnetError):
    """Base of the errors below."""


class PreflightError(ServingError):
    """The machine or the repository is not ready; nothing was started."""


class StartError(ServingError):
    """tritonserver ended or did not become ready; it has been stopped."""


class ProbeError(ServingError):
    """The server answers the known plate late, wrongly or not at all.

    Args:
        message: one sentence.
        kind: "wrong" answer, "timeout", "overloaded" (refused: a queue is full), other "error".
    """

    def __init__(self, message: str, kind: ProbeFailure = "error") -> None:
        super().__init__(message)
        self.kind: ProbeFailure = kind
