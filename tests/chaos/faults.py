"""Faults that are put into a running, watched server, and what became of it."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from typing import Any

import tritonclient.grpc as grpcclient
from onnx_samples import paint
from tritonclient.utils import InferenceServerException

from lprnet import contract
from serving.watchdog import Watchdog
from serving.watchdog_models import load_anew
from serving.watchdog_stubs import Stub, find_stubs

PATIENCE_S = 120.0


def stubs(dog: Watchdog) -> list[Stub]:
    """Stubs of the running server, by model name."""
    launched = dog.server.launched
    return sorted(find_stubs(launched.pid, launched.shm_prefix), key=lambda stub: stub.model)


def recoveries(dog: Watchdog) -> int:
    """How often the watchdog has mended its server."""
    count: int = dog.status.describe()["recoveries"]
    return count


def recovery_s(dog: Watchdog, before: int) -> float:
    """Wait until the watchdog has proven that the service is whole; the time from now."""
    begin = time.monotonic()
    while time.monotonic() - begin < PATIENCE_S:
        if recoveries(dog) > before and dog.status.ready():
            return time.monotonic() - begin
        time.sleep(0.005)
    raise AssertionError(f"no recovery in {PATIENCE_S:g} s: {dog.status.describe()}")


def signal_stub(dog: Watchdog, model: str, number: signal.Signals) -> float:
    """SIGKILL or SIGSTOP one model's process; the time until the service was whole, s."""
    before = recoveries(dog)
    found = stubs(dog)
    try:
        victim = next(stub for stub in found if stub.model == model)
        os.kill(victim.pid, number)
    finally:
        for stub in found:
            stub.close()
    return recovery_s(dog, before)


def kill_server(dog: Watchdog) -> float:
    """SIGKILL tritonserver; the time until the service was whole, s."""
    before = recoveries(dog)
    os.kill(dog.server.launched.pid, signal.SIGKILL)
    return recovery_s(dog, before)


def reload(dog: Watchdog, model: str) -> None:
    """What an operator does after new weights: load a model anew while it serves."""
    load_anew(dog.server, model, PATIENCE_S)


def disconnect(dog: Watchdog, count: int, rng: random.Random) -> None:
    """Clients that leave while their requests are under way."""
    crop = paint("GONE1")[None]
    for _ in range(count):
        client = grpcclient.InferenceServerClient(dog.server.grpc_url)
        tensor = grpcclient.InferInput(contract.IMAGE, list(crop.shape), "UINT8")
        tensor.set_data_from_numpy(crop)
        for _ in range(8):
            client.async_infer(contract.CROP_ENSEMBLE, [tensor], _ignore)
        time.sleep(rng.uniform(0, 0.01))
        client.close()


def _ignore(result: object, error: object) -> None:
    """Nobody is there to hear the answer."""


def slow_clients(addresses: list[tuple[str, int]], count: int) -> list[socket.socket]:
    """Connections that send half a request and then nothing; the caller closes them."""
    held = []
    for address in addresses:
        for _ in range(count):
            connection = socket.create_connection(address, timeout=10)
            connection.sendall(b"POST /v2/models/lpr/infer HTTP/1.1\r\nContent-Length: 99999\r\n")
            held.append(connection)
    return held


def flood(dog: Watchdog, parallel: int, seconds: float) -> dict[str, Any]:
    """Keep `parallel` requests of one crop under way; answers by status with their times."""
    import threading

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

    with grpcclient.InferenceServerClient(dog.server.grpc_url) as client:
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
