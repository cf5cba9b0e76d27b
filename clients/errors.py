"""What can go wrong between a client and the server, each with a name of its own."""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

import grpc  # type: ignore[import-untyped]

from lprnet.errors import ImageError, LprnetError

_PICTURE = re.compile(
    r"(?:picture (?P<index>\d+): )?"
    r"(?P<reason>empty|not_an_image|truncated|corrupt|too_large|too_small|bad_shape|bad_dtype): "
    r"(?P<sentence>.+)",
    re.DOTALL,
)
_STUB_DIED = "Stub process"  # Triton's INTERNAL while a Python model waits to be brought back
_NOBODY_LISTENS = "failed to connect to all addresses"  # gRPC's words
_HANDSHAKE = "handshake"  # somebody listens, and the certificates do not fit
_RESTRICTED = "This protocol is restricted"  # said with UNAVAILABLE, yet it will not pass
_LEAVING = "has no available versions"  # a server that is being stopped, a model between two loads
_REGION_ELSEWHERE = "Unable to open shared memory region"
SAME_MACHINE: Final = (
    "Shared memory needs a server on the same machine that shares the client's /dev/shm"
)
_REGION_GONE = "Unable to find shared memory region"  # the server was started anew


class ClientError(LprnetError):
    """Base of the errors below.

    Attributes:
        request_id: of the request that failed, by which the server's log knows it; else empty.
    """

    request_id: str = ""


class ConfigurationError(ClientError, ValueError):
    """The client was asked for something that cannot work: a malformed address, no such file."""


class ServerUnavailable(ClientError):
    """Nobody answers at the address, or the server refuses for now (UNAVAILABLE)."""


class ServerUnreachable(ServerUnavailable):
    """Nobody listens at the address: it is down, being started anew, or another one."""


class DeadlineExceeded(ClientError):
    """No answer within `ClientOptions.timeout_s`, retries included."""


class InvalidPicture(ClientError, ValueError):
    """This picture cannot be read; others can. Found here or by the server, in the same words.

    Args:
        reason: code of `lprnet.image`, e.g. ``"truncated"``.
        message: one sentence for a person.
        index: position among the pictures of the request, where the server named it.
    """

    def __init__(self, reason: str, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.index = index

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy: an outcome may be handed to another process."""
        return type(self), (self.reason, str(self), self.index), self.__dict__

    @classmethod
    def from_image_error(cls, error: ImageError) -> InvalidPicture:
        """The client's own check failed."""
        return cls(error.reason, str(error))


class ServerError(ClientError):
    """The server answered with an error that is no fault of a picture.

    Args:
        code: gRPC status name, e.g. ``"INTERNAL"``.
        message: the server's words.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"the server answered {code}: {message}")
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy."""
        return type(self), (self.code, self.message), self.__dict__

    def __str__(self) -> str:
        """The sentence, and the request that the server's log tells more of."""
        words = super().__str__()
        return f"{words} [request {self.request_id}]" if self.request_id else words


class ModelNotFound(ServerError):
    """The server runs but does not hold the model: it serves another repository."""


class AccessDenied(ServerError):
    """Certificate, key or header refused (UNAUTHENTICATED or PERMISSION_DENIED)."""


class RegionLost(ServerError):
    """The server no longer knows a shared memory region of ours; the client registers it anew."""


class TritonException(Protocol):
    """What is used of tritonclient's InferenceServerException."""

    def status(self) -> str | None: ...
    def message(self) -> str | None: ...


def from_triton(error: TritonException, url: str) -> ClientError:
    """tritonclient's exception -> ours."""
    code = (error.status() or "UNKNOWN").removeprefix("StatusCode.")
    return _from_status(code, error.message() or "no reason given", url)


def from_grpc(error: grpc.Call, url: str) -> ClientError:
    """gRPC's exception -> ours."""
    return _from_status(error.code().name, error.details() or "no reason given", url)


def _from_status(code: str, message: str, url: str) -> ClientError:
    if _RESTRICTED in message:
        return AccessDenied(code, message)
    if code == "UNAVAILABLE" or (code == "NOT_FOUND" and _LEAVING in message):
        nobody = _NOBODY_LISTENS in message and _HANDSHAKE not in message.lower()
        kind = ServerUnreachable if nobody else ServerUnavailable
        return kind(f"the server at {url} is not available: {message}")
    if code == "DEADLINE_EXCEEDED":
        return DeadlineExceeded(f"the server at {url} did not answer in time")
    if code == "CANCELLED":
        return ClientError("the call was cancelled")
    return from_words(code, message)


def from_words(code: str, message: str) -> ClientError:
    """A code and the server's words -> our error. A stream gives the words only."""
    picture = _PICTURE.search(message)
    if picture is not None and code in ("INVALID_ARGUMENT", "UNKNOWN"):
        index = picture["index"]
        return InvalidPicture(
            picture["reason"], picture["sentence"], None if index is None else int(index)
        )
    if _REGION_GONE in message:
        return RegionLost(code, message)
    if _REGION_ELSEWHERE in message:
        return ServerError(code, f"{message}. {SAME_MACHINE}")
    if code == "NOT_FOUND":
        return ModelNotFound(code, message)
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return AccessDenied(code, message)
    return ServerError(code, message)


def is_transient(error: ClientError) -> bool:
    """Whether the same call may succeed in a moment: reading a plate changes nothing there.

    UNAVAILABLE (no connection, queue full, model being loaded), NOT_FOUND of a server that is being
    stopped (its models go first), and INTERNAL while a Python
    model's process is dead and the server's watchdog brings it back.
    """
    if isinstance(error, ServerError):
        return _STUB_DIED in error.message
    return isinstance(error, ServerUnavailable)
