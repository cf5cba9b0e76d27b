"""fast-plate-ocr, in-process and behind FastAPI: what one would otherwise write.

Its model is not part of this project: `--peer-dir` names a folder with NAME.onnx and
NAME_plate_config.yaml.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import cv2
import numpy as np
import psutil  # type: ignore[import-untyped]

from load_tests.pictures import ROOT
from lprnet.charset import normalise_text
from lprnet.errors import LprnetError
from serving.preflight import free_port

DEFAULT_DIR: Final = ROOT.parent / "shared" / "peers" / "fast-plate-ocr"
NAME: Final = "cct_xs_v2_global"
DIR_VARIABLE: Final = "LPRNET_PEER_DIR"
START_TIMEOUT_S: Final = 120.0
POLL_S: Final = 0.1
STOP_S: Final = 5.0


def present(folder: Path) -> bool:
    """Whether the folder holds the model."""
    return (folder / f"{NAME}.onnx").is_file() and (folder / f"{NAME}_plate_config.yaml").is_file()


def recogniser(folder: Path) -> Any:
    """The library's own reader with its own defaults, on the CPU."""
    from fast_plate_ocr import LicensePlateRecognizer

    return LicensePlateRecognizer(
        onnx_model_path=folder / f"{NAME}.onnx",
        plate_config_path=folder / f"{NAME}_plate_config.yaml",
        providers=["CPUExecutionProvider"],
    )


def decode(data: bytes) -> Any:
    """Encoded picture -> UINT8 [H, W, 3] RGB."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), 1), cv2.COLOR_BGR2RGB)


@dataclass(frozen=True)
class PeerReader:
    """For `in_process.Child`: encoded pictures in, text out."""

    folder: Path
    files: list[bytes]

    def load(self) -> tuple[Callable[[int, int], int], Callable[[], list[str]]]:
        """`ask(index, batch)` and a function that reads all pictures."""
        reader = recogniser(self.folder)

        def ask(index: int, batch: int) -> int:
            start = index * batch
            pictures = [
                decode(self.files[at % len(self.files)]) for at in range(start, start + batch)
            ]
            return len(reader.run(pictures))

        def read_all() -> list[str]:
            return [normalise_text(reader.run(decode(data))[0].plate) for data in self.files]

        return ask, read_all


class PeerServer:
    """`peer_app` under uvicorn; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.address = f"127.0.0.1:{free_port('127.0.0.1', [])}"
        command = [sys.executable, "-m", "uvicorn", "load_tests.peer_app:app"]
        command += ["--host", "127.0.0.1", "--port", self.address.rpartition(":")[2]]
        command += ["--log-level", "warning", "--no-access-log"]
        environment = {**os.environ, DIR_VARIABLE: str(folder.resolve())}
        self._process = subprocess.Popen(command, env=environment, cwd=ROOT)

    @property
    def processes(self) -> list[psutil.Process]:
        """All of it."""
        return [psutil.Process(self._process.pid)]

    def __enter__(self) -> PeerServer:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"http://{self.address}/health", timeout=1).close()
                return self
            except (urllib.error.URLError, TimeoutError):
                time.sleep(POLL_S)
        self._stop()
        raise LprnetError("the FastAPI server did not start; its words are above")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
