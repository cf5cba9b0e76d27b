"""What the repository's Python models share. Works inside Triton's Python backend only."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Final

from lprnet.errors import LprnetError

try:
    import triton_python_backend_utils as pb_utils
except ModuleNotFoundError:  # no Triton around: `serving` reads the name below, the API pages all
    pb_utils = None

INTERVAL_S: Final = 1.0
"""Between two messages of `Counters` to the server."""

Label = tuple[str, str]
Count = tuple[str, Label | None, float]
"""Counter's name, a label and its value (or None), what to add."""


HANG_LIMIT: Final = "LPRNET_HANG_LIMIT_S"
"""Environment variable: a process whose `execute` stands still for so long, at most a quarter
longer, ends itself. Set where somebody replaces it: Triton alone would leave its instance dead."""


class PythonModel(ABC):
    """Loading, failing and hanging, the same in every model.

    A subclass loads itself in `load` and answers requests in `answer`. Triton sees
    `initialize` and `execute`.
    """

    name: ClassVar[str]
    _working_since: float | None = None

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the model; what it refuses stands in the server's log in one line."""
        parameters = {
            key: str(value["string_value"])
            for key, value in json.loads(args["model_config"]).get("parameters", {}).items()
        }
        try:
            self.load(Path(args["model_repository"]), args["model_version"], parameters)
        except LprnetError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        if HANG_LIMIT in os.environ:
            limit_s = float(os.environ[HANG_LIMIT])
            threading.Thread(target=self._end_when_hung, args=(limit_s,), daemon=True).start()

    @abstractmethod
    def load(self, folder: Path, version: str, parameters: Mapping[str, str]) -> None:
        """Prepare for `answer`.

        Args:
            folder: of the model.
            version: name of the version folder in it.
            parameters: of the model's config.

        Raises:
            LprnetError: when something does not fit.
        """

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """As many responses as requests, in order.

        Whatever goes wrong, clients get one clear sentence and the server's log the traceback.
        """
        self._working_since = time.monotonic()
        try:
            return self.answer(requests)
        except Exception:  # what lies below has no common base
            names = ", ".join(filter(None, (request.request_id() for request in requests)))
            pb_utils.Logger.log_error(f"requests {names or '-'}: {traceback.format_exc()}")
            message = f"{self.name} failed; the reason is in the server's log"
            error = pb_utils.TritonError(message, pb_utils.TritonError.INTERNAL)
            return [pb_utils.InferenceResponse(error=error) for _ in requests]
        finally:
            self._working_since = None

    def moved_on(self) -> None:
        """Tell that a long piece of work is not stuck."""
        if self._working_since is not None:  # else a helper's last word, after `execute` has ended
            self._working_since = time.monotonic()

    def _end_when_hung(self, limit_s: float) -> None:
        """One of several instances that hangs is not missed from outside: the others answer.

        The alarm is in C and needs no interpreter: it also goes off where something keeps the
        interpreter's lock, and this thread can no longer put it off.
        """
        seen = None
        while True:
            since = self._working_since
            if since is None or since != seen:
                faulthandler.dump_traceback_later(limit_s, exit=True, file=sys.stderr)
            seen = since
            time.sleep(limit_s / 4)

    @abstractmethod
    def answer(self, requests: Sequence[Any]) -> list[Any]:
        """`execute` without its safety net."""


def values(requests: Sequence[Any], name: str) -> list[Any]:
    """Content of an input tensor in each request."""
    return [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests]


def spans(parts: Iterable[Any]) -> Iterator[tuple[int, int]]:
    """Begin and end of each part when all of them stand one after another."""
    begin = 0
    for end in accumulate(len(part) for part in parts):
        yield begin, end
        begin = end


def response(tensors: Mapping[str, Any]) -> Any:
    """One request's outputs."""
    return pb_utils.InferenceResponse([pb_utils.Tensor(*tensor) for tensor in tensors.items()])


def refusal(message: str) -> Any:
    """The response to a request that is the client's mistake."""
    error = pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG)
    return pb_utils.InferenceResponse(error=error)


class Counters:
    """Prometheus counters beside Triton's own, sent once a second by a thread.

    Each change of a metric is a message to tritonserver; so counting is left to the model, and
    only sums are sent. Every counter carries the label `process`: of two processes that share a
    counter (one comes, one goes when the model is loaded anew) the first to end would free it
    under the other's hands.

    Args:
        families: name -> description of each counter.
        collect: what is new since it was last called; called on the thread.

    Attributes:
        kept: False where the server keeps no metrics; `collect` is never called then.
    """

    def __init__(self, families: Mapping[str, str], collect: Callable[[], Iterable[Count]]) -> None:
        self._collect = collect
        self._families: dict[str, Any] = {}
        self._metrics: dict[tuple[str, Label | None], Any] = {}
        self._own = {"process": str(os.getpid())}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="counters", daemon=True)
        kind = pb_utils.MetricFamily.COUNTER
        try:
            for name, what in families.items():
                self._families[name] = pb_utils.MetricFamily(name=name, description=what, kind=kind)
        except pb_utils.TritonModelException:  # tritonserver runs with --allow-metrics=false
            pb_utils.Logger.log_info("the server keeps no metrics: nothing is counted")
        self.kept = len(self._families) == len(families)
        if self.kept:
            self._thread.start()

    def close(self) -> None:
        """Send the rest and end the thread."""
        if self.kept:
            self._ended.set()
            self._thread.join()
            self._send()
        self._metrics.clear()  # before their families
        self._families.clear()

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self._send()

    def _send(self) -> None:
        for name, label, value in self._collect():
            if not value:
                continue
            if (name, label) not in self._metrics:
                labels = self._own if label is None else {**self._own, label[0]: label[1]}
                self._metrics[name, label] = self._families[name].Metric(labels=labels)
            self._metrics[name, label].increment(value)
