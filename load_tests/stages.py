"""Where the time goes inside the server, from Triton's own statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import tritonclient.grpc as grpcclient

from lprnet import contract

STAGES: Final = (
    contract.IMAGE_DECODER_MODEL,
    contract.ENGINE_MODEL,
    contract.DECODER_MODEL,
)
PARTS: Final = ("queue", "compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True)
class Counters:
    """Sums of one model.

    Attributes:
        requests, plates, executions: counts.
        ns: time of all requests by part, nanoseconds.
        total_ns: of all parts and what lies between them.
    """

    requests: int
    plates: int
    executions: int
    ns: tuple[int, ...]
    total_ns: int

    def minus(self, before: Counters) -> Counters:
        """What came since."""
        return Counters(
            self.requests - before.requests,
            self.plates - before.plates,
            self.executions - before.executions,
            tuple(now - then for now, then in zip(self.ns, before.ns, strict=True)),
            self.total_ns - before.total_ns,
        )

    def plus(self, other: Counters) -> Counters:
        """Both together."""
        return Counters(
            self.requests + other.requests,
            self.plates + other.plates,
            self.executions + other.executions,
            tuple(a + b for a, b in zip(self.ns, other.ns, strict=True)),
            self.total_ns + other.total_ns,
        )

    def mean_ms(self, part: int) -> float:
        """Time of a request in one of `PARTS`."""
        return self.ns[part] / self.requests / 1e6

    @property
    def mean_batch(self) -> float:
        """Plates of one call of the model."""
        return self.plates / self.executions


def read_counters(client: grpcclient.InferenceServerClient) -> dict[str, Counters]:
    """Counters of every model that runs, ensembles too."""
    found = {}
    for model in client.get_inference_statistics().model_stats:
        stats = model.inference_stats
        found[model.name] = Counters(
            requests=stats.success.count,
            plates=model.inference_count,
            executions=model.execution_count,
            ns=tuple(getattr(stats, part).ns for part in PARTS),
            total_ns=stats.success.ns,
        )
    return found
