"""A flood of crops from a process of its own, so that it does not slow down who measures.

Prints one JSON object: `python -m tests.chaos.flood URL PARALLEL SECONDS`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import tritonclient.grpc as grpcclient
from onnx_samples import paint
from tritonclient.utils import InferenceServerException

from lprnet import contract

from .faults import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]


def start(url: str, parallel: int, seconds: float) -> subprocess.Popen[str]:
    """`flood` in another process; its output is the result."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.flood", url, str(parallel), str(seconds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def observe(url: str, seconds: float) -> dict[str, Any]:
    """One request after the other, as a client meets the flood: times of answers and refusals."""
    return flood(url, 1, seconds)


def flood(url: str, parallel: int, seconds: float) -> dict[str, Any]:
    """Keep `parallel` requests of one crop under way; answers by status with their times."""
    crop = paint("FLOOD")[None]
    tensor = grpcclient.InferInput(contract.IMAGE, list(crop.shape), "UINT8")
    tensor.set_data_from_numpy(crop)
    places = threading.Semaphore(parallel)
    lock = threading.Lock()
    times_s: dict[str, list[float]] = {"ok": [], "refused": []}
    other: list[str] = []
    wrong: list[str] = []

    def done(begin: float, result: Any, error: InferenceServerException | None) -> None:
        taken = time.monotonic() - begin
        with lock:
            if error is None:
                times_s["ok"].append(taken)
                plate = result.as_numpy(contract.PLATE)[0, 0].decode()
                if plate != "FLOOD":
                    wrong.append(plate)
            elif error.status() == "StatusCode.UNAVAILABLE":
                times_s["refused"].append(taken)
            else:
                other.append(f"{error.status()} {error.message()}")
        places.release()

    with grpcclient.InferenceServerClient(url) as client:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            places.acquire()
            begin = time.monotonic()
            client.async_infer(
                contract.CROP_ENSEMBLE,
                [tensor],
                lambda result, error, begin=begin: done(begin, result, error),
                client_timeout=PATIENCE_S,
            )
        for _ in range(parallel):
            places.acquire()
    return {
        "parallel": parallel,
        "wrong": len(wrong),
        "other": other[:5],
        **{
            f"{name}_{what}": value
            for name, values in times_s.items()
            for what, value in (
                ("count", len(values)),
                ("p50_ms", _ms(values, 0.5)),
                ("p99_ms", _ms(values, 0.99)),
            )
        },
    }


def _ms(values: list[float], part: float) -> float | None:
    return round(sorted(values)[int(len(values) * part)] * 1000, 1) if values else None


if __name__ == "__main__":
    print(json.dumps(flood(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
