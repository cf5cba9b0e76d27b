"""Readers without a server, each in a child process: their CPU time and memory are their own."""

from __future__ import annotations

import importlib
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
import psutil  # type: ignore[import-untyped]

from load_tests.drive import Ask, Timed, drive_threads
from load_tests.runtime_alone import OpenVinoAlone
from lprnet import contract
from lprnet.cpus import usable_cpus
from lprnet.errors import LprnetError
from lprnet.plate_spec import PlateSpec

START_TIMEOUT_S: Final = 120.0
GRACE_S: Final = 60.0


@dataclass(frozen=True)
class EngineReader:
    """The shipped engine without Triton.

    Attributes:
        folder: version folder of the model.
        parameters: of the model's config.
        crops: UINT8 [N, 3, 48, 96].
        alone: OpenVINO by itself (`load_tests.runtime_alone`) instead of the model's engine, which
            is made of it. ONNX Runtime is the same in both.
    """

    folder: Path
    parameters: Mapping[str, str]
    crops: Any
    alone: bool = True

    def load(self) -> tuple[Callable[[int, int], int], Callable[[], list[str]]]:
        """`ask(index, batch)`; the second function is not for this reader."""
        sys.path.append(str(self.folder))
        engine_module = importlib.import_module("lprnet_engine")
        file_module = importlib.import_module("lprnet_model_file")
        runtime = engine_module.choose_runtime(self.parameters["runtime"])
        path = file_module.model_path(self.folder, self.parameters["model_file"], runtime)
        threads = int(self.parameters["threads"])
        hint = self.parameters["performance_hint"]
        engine: Any
        if self.alone and runtime == "openvino":
            engine = OpenVinoAlone(path, threads or usable_cpus(), hint)
        else:
            engine = engine_module.load_engine(
                path,
                PlateSpec.from_file(self.folder / contract.SPEC_FILE),
                engine_module.EngineOptions(
                    runtime=runtime,
                    threads=threads,
                    hint=hint,
                    cache_dir=self.parameters["cache_dir"],
                ),
            )

        def ask(index: int, batch: int) -> int:
            start = index * batch % max(1, len(self.crops) - batch + 1)
            ids, _ = engine.infer(np.ascontiguousarray(self.crops[start : start + batch]))
            return len(ids)

        def read_all() -> list[str]:
            raise LprnetError("the bare engine gives no text")

        return ask, read_all


class Child:
    """A reader in a process of its own; use it as a context manager.

    Args:
        reader: picklable, with a `load` like `EngineReader`'s.

    Raises:
        LprnetError: when the reader cannot be loaded, in its own words.
    """

    def __init__(self, reader: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_child, args=(theirs, reader), daemon=True)
        self._process.start()
        theirs.close()
        self._receive(START_TIMEOUT_S)

    @property
    def process(self) -> psutil.Process:
        """The child."""
        return psutil.Process(self._process.pid)

    def drive(self, batch: int, seconds: float) -> tuple[Timed, float]:
        """One request after another, and the CPU time that they took, s."""
        self._pipe.send(("drive", batch, seconds))
        timed: tuple[Timed, float] = self._receive(seconds + GRACE_S)
        return timed

    def read_all(self) -> list[str]:
        """Texts of all pictures that the reader holds."""
        self._pipe.send(("read", 0, 0.0))
        texts: list[str] = self._receive(10 * GRACE_S)
        return texts

    def _receive(self, timeout_s: float) -> Any:
        try:
            if not self._pipe.poll(timeout_s):
                raise LprnetError(f"no answer from a child process within {timeout_s:g} s")
            answer = self._pipe.recv()
        except EOFError:
            raise LprnetError("a child process died; its words are above") from None
        if isinstance(answer, LprnetError):
            raise answer
        return answer

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _ask_sized(ask: Callable[[int, int], int], batch: int, index: int) -> int:
    return ask(index, batch)


def _timed(ask: Ask, seconds: float) -> tuple[Timed, float]:
    began_s: list[float] = []
    timed = drive_threads([ask], seconds, lambda: began_s.append(time.process_time()))
    return timed, time.process_time() - began_s[0]


def _child(pipe: Connection, reader: Any) -> None:
    try:
        ask, read_all = reader.load()
    except Exception as error:  # whatever the runtime raises: one line, and the child ends
        traceback.print_exc()
        pipe.send(LprnetError(f"{type(reader).__name__} does not load: {error}"))
        return
    pipe.send("ready")
    while True:
        try:
            verb, batch, seconds = pipe.recv()
        except EOFError:
            return
        if verb == "read":
            pipe.send(read_all())
        else:
            pipe.send(_timed(partial(_ask_sized, ask, batch), seconds))
