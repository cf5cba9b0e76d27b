"""Errors that a user of the package may see: one clear line, no traceback needed."""

from __future__ import annotations

from typing import Any


class LprnetError(Exception):
    """Base of every error whose message is meant for a user.

    The message names what was wrong and what to do; command-line programs print it in one line
    and exit non-zero, servers send it to the client as it is.
    """


class SpecError(LprnetError, ValueError):
    """A plate spec, charset or model metadata that is invalid or does not match its partner."""


class ImageError(LprnetError, ValueError):
    """A picture that cannot be turned into a crop.

    Args:
        reason: stable short code for metrics and tests, e.g. ``"truncated"`` (see
            `lprnet.image` for the list).
        message: one sentence for a person; never holds a path or memory address.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy, which would call the class with the message alone."""
        return type(self), (self.reason, str(self)), self.__dict__
