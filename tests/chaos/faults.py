"""Faults that are put into a running, watched server, and what became of it."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
import urllib.error
import urllib.request

import tritonclient.grpc as grpcclient
from onnx_samples import paint

from lprnet import contract
from serving.watchdog import Watchdog
from serving.watchdog_models import instance_counts, load_anew
from serving.watchdog_stubs import Stub, by_age, find_stubs

PATIENCE_S = 120.0
HTTP_TIMEOUT_S = 2.0
"""Kubernetes' probes wait for one second; a busy test machine gets two."""


def stubs(dog: Watchdog) -> list[Stub]:
    """The processes of all models, by model name; the caller closes them."""
    launched = dog.server.launched
    counts = instance_counts(dog.server, HTTP_TIMEOUT_S)
    newest, older = by_age(find_stubs(launched.pid, launched.shm_prefix), counts)
    for stub in older:
        stub.close()
    return newest


def recoveries(dog: Watchdog) -> int:
    """How often the watchdog has mended its server."""
    count: int = dog.status.describe()["recoveries"]
    return count


def server_deaths(dog: Watchdog) -> int:
    """How often tritonserver has ended of itself."""
    return sum(
        int(sample.value)
        for metric in dog.journal.events.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["event"] == "server_died"
    )


def until_ready(dog: Watchdog) -> None:
    """Wait until the known plate is read right."""
    end = time.monotonic() + PATIENCE_S
    while not dog.status.ready():
        assert time.monotonic() < end, dog.status.describe()
        time.sleep(0.005)


def recovery_s(dog: Watchdog, before: int) -> float:
    """Wait until the watchdog has proven that the service is whole; the time from now."""
    begin = time.monotonic()
    while time.monotonic() - begin < PATIENCE_S:
        if recoveries(dog) > before and dog.status.ready():
            return time.monotonic() - begin
        time.sleep(0.005)
    raise AssertionError(f"no recovery in {PATIENCE_S:g} s: {dog.status.describe()}")


def signal_stub(dog: Watchdog, model: str, number: signal.Signals) -> float:
    """SIGKILL or SIGSTOP one of a model's processes; the time until the service was whole, s."""
    before = recoveries(dog)
    found = stubs(dog)
    try:
        victims = [stub for stub in found if stub.model == model]
        assert victims, f"{model} has no process"
        os.kill(victims[0].pid, number)
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


def disconnect(dog: Watchdog, count: int, rng: random.Random) -> int:
    """Clients that leave while their requests are under way; how many requests they gave up."""
    given_up: list[object] = []

    def done(result: object, error: object) -> None:
        if error is not None:
            given_up.append(error)

    crop = paint("GONE1")[None]
    for _ in range(count):
        client = grpcclient.InferenceServerClient(dog.server.grpc_url)
        tensor = grpcclient.InferInput(contract.IMAGE, list(crop.shape), "UINT8")
        tensor.set_data_from_numpy(crop)
        for _ in range(8):
            client.async_infer(contract.CROP_ENSEMBLE, [tensor], done)
        time.sleep(rng.uniform(0, 0.01))
        client.close()
    return len(given_up)


def slow_clients(addresses: list[tuple[str, int]], count: int) -> list[socket.socket]:
    """Connections that send half a request and then nothing; the caller closes them."""
    held = []
    for address in addresses:
        for _ in range(count):
            connection = socket.create_connection(address, timeout=10)
            connection.sendall(b"POST /v2/models/lpr/infer HTTP/1.1\r\nContent-Length: 99999\r\n")
            held.append(connection)
    return held


def http_is_ready(*urls: str) -> bool:
    """Whether each answers 200 in time; one that does not answer is not ready either."""
    for url in urls:
        try:
            with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT_S) as answer:
                if answer.status != 200:
                    return False
        except (urllib.error.URLError, TimeoutError):
            return False
    return True
