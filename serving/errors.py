"""Errors of starting and running a server, each with what to do about it."""

from __future__ import annotations

from lprnet.errors import LprnetError


class ServingError(LprnetError):
    """Base of the errors below."""


class PreflightError(ServingError):
    """The machine or the repository is not ready; nothing was started."""


class StartError(ServingError):
    """tritonserver ended or did not become ready; it has been stopped."""


class ProbeError(ServingError):
    """The server answers the known plate late, wrongly or not at all."""
