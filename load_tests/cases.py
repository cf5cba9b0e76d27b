"""What `bench` measures: one case is a target, a way to it, a batch size and a concurrency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lprnet import contract

ENGINE: Final = "bare engine"
"""The runtime alone: one call a batch, all threads on it."""

SERVED_ENGINE: Final = "engine as served"
"""The same made into graphs of fixed batch sizes, one thread each, which is what the model does."""

PEER: Final = "fast-plate-ocr"
PEER_SERVER: Final = "fast-plate-ocr + FastAPI"

IN_PROCESS: Final = "in-process"
LIBRARY: Final = "gRPC"
SHARED_MEMORY: Final = "gRPC, shared memory"
BATCHING: Final = "gRPC, asyncio"
RAW_GRPC: Final = "gRPC, bare"
HTTP: Final = "HTTP"

WAYS: Final = {
    IN_PROCESS: "a function call in a process of its own, no server",
    LIBRARY: "`clients.PlateClient`, a thread for each request under way",
    SHARED_MEMORY: "the same with system shared memory",
    BATCHING: "`clients.AsyncPlateClient`: single calls, gathered into batches by the client",
    RAW_GRPC: "a load generator: requests serialised beforehand, blocking calls in threads",
    HTTP: "a load generator: bodies made beforehand, one kept-alive connection a thread",
}

CURVE_LEVELS: Final = (1, 2, 4, 8, 16, 32)
MANY: Final = 32
"""Batch size and concurrency of the throughput cases."""


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        target: model name, or one of the names above.
        way: one of `WAYS`.
        batch: pictures a request.
        concurrency: requests under way.
    """

    target: str
    way: str
    batch: int
    concurrency: int

    @property
    def lone(self) -> bool:
        """Whether it is one picture at a time: its latency is looked at, not its throughput."""
        return self.batch == self.concurrency == 1


def all_cases(*, engine: bool, peer: bool, quick: bool) -> list[Case]:
    """In the order of the table.

    Args:
        engine: the bare engine can be run here.
        peer: the peer's model is there.
        quick: no intermediate levels of the curves.
    """
    levels = (1, MANY) if quick else CURVE_LEVELS
    lpr, image = contract.CROP_ENSEMBLE, contract.IMAGE_ENSEMBLE
    cases: list[Case] = []
    if engine:
        cases += [Case(ENGINE, IN_PROCESS, 1, 1), Case(ENGINE, IN_PROCESS, MANY, 1)]
        cases.append(Case(SERVED_ENGINE, IN_PROCESS, MANY, 1))
    cases += _steps(contract.ENGINE_MODEL, RAW_GRPC, (1, MANY))
    for model in (lpr, image):
        cases += _steps(model, LIBRARY, (1, MANY))
        cases += _steps(model, SHARED_MEMORY, (1,))
        cases += _steps(model, HTTP, (1, MANY))
        cases += _steps(model, RAW_GRPC, levels)
    cases += [Case(model, BATCHING, 1, MANY) for model in (lpr, image)]
    if peer:
        cases += [Case(PEER, IN_PROCESS, 1, 1), Case(PEER, IN_PROCESS, MANY, 1)]
        cases += [Case(PEER_SERVER, HTTP, 1, level) for level in levels]
    return cases


def in_turn(cases: Sequence[Case], number: int) -> list[Case]:
    """The order in round `number`: one picture at a time before batches and floods.

    Every other round goes backwards: no case always follows the same one.
    """
    turns = cases if number % 2 == 0 else cases[::-1]
    return sorted(turns, key=lambda case: not case.lone)


def _steps(model: str, way: str, levels: tuple[int, ...]) -> list[Case]:
    """Single pictures at some concurrencies, and batches of MANY, two under way."""
    return [*(Case(model, way, 1, level) for level in levels), Case(model, way, MANY, 2)]
