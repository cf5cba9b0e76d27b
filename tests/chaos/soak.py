"""Long steady load, and what the server keeps of it: memory, descriptors, shared memory."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as grpcclient
from onnx_samples import paint
from tritonclient.utils import InferenceServerException

from clients import ClientOptions, PlateClient, RetryPolicy
from lprnet import contract
from serving.watchdog import Watchdog

from .load import WORKERS, png
from .memory import Sample, sample

WARM_UP_REQUESTS = 5_000
"""On every path: allocators, buffers and caches reach their size."""
WARM_UP_PARALLEL = 16
WARM_UP_BURST = 2_000
"""With as many requests under way as the load ever has: tritonserver keeps the memory of its
largest crowd, and on a busy machine a steady load becomes one."""
WARM_UP_RETRIES = RetryPolicy(budget=100_000)
MAX_BATCH = 64
SETTLE_S = 60.0
"""Of the steady load before the first sample: buffers of the burst are given back."""
MAX_GROWTH_PERCENT = 2.0
WINDOW_PART = 0.1
"""The first tenth of the samples is compared with the last."""


def warm_up(dog: Watchdog, count: int = WARM_UP_REQUESTS) -> None:
    """Before the first sample: crops and pictures, one by one and in batches of every size,
    pictures to refuse, and a crowd.
    """
    crop = paint("WARM1")[np.newaxis]
    crops = np.repeat(crop, MAX_BATCH, axis=0)
    picture = png(crop[0])
    options = ClientOptions(timeout_s=120, retry=WARM_UP_RETRIES)
    with PlateClient(dog.server.grpc_url, options) as client, dog.server.connect() as plain:

        def request(number: int) -> None:
            size = 1 + number % MAX_BATCH
            match number % 8:
                case 0:
                    client.read_crops(crops[:size])
                case 1:
                    client.read_images([picture] * size)
                case 2:
                    _refused(plain, b"no picture")
                case 3 | 4 | 5:
                    client.read_crops(crop)
                case _:
                    client.read_image(picture)

        with ThreadPoolExecutor(WARM_UP_PARALLEL) as pool:
            list(pool.map(request, range(count)))
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda _: client.read_crops(crop), range(WARM_UP_BURST)))


def _refused(client: grpcclient.InferenceServerClient, data: bytes) -> None:
    """Past our own client, which would not even send it."""
    files: npt.NDArray[np.object_] = np.array([[data]], dtype=np.object_)
    tensor = grpcclient.InferInput(contract.ENCODED, [1, 1], "BYTES")
    tensor.set_data_from_numpy(files)
    try:
        client.infer(contract.IMAGE_ENSEMBLE, [tensor], client_timeout=60)
    except InferenceServerException:
        return
    raise AssertionError("a file that is no picture was read")


def soak(dog: Watchdog, seconds: float) -> tuple[bool, dict[str, object]]:
    """Sample while somebody else puts the load on."""
    time.sleep(min(SETTLE_S, seconds / 5))
    samples = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        samples.append(sample(dog))
        time.sleep(min(5.0, seconds / 20))
    window = max(1, int(len(samples) * WINDOW_PART))
    first, last = samples[:window], samples[-window:]
    own = _growth_percent([entry.total_own_bytes for entry in samples], window)
    resident = _growth_percent([entry.resident_bytes for entry in samples], window)
    descriptors = (first[-1].descriptors, last[-1].descriptors)
    segments = (first[-1].segments_bytes, last[-1].segments_bytes)
    good = (
        max(own, resident) < MAX_GROWTH_PERCENT
        and descriptors[1] <= descriptors[0] + 2
        and segments[1] <= segments[0]
    )
    return good, {
        "seconds": seconds,
        "warm_up_requests": WARM_UP_REQUESTS + WARM_UP_BURST,
        "samples": len(samples),
        "own_memory_mib": {
            name: [_mib(first, name), _mib(last, name)] for name in sorted(last[-1].own_bytes)
        },
        "own_total_mib": [
            round(entry.total_own_bytes / 2**20, 1) for entry in samples[:: max(1, window)]
        ],
        "own_growth_percent": round(own, 2),
        "resident_growth_percent": round(resident, 2),
        "descriptors": descriptors,
        "shared_memory_bytes": segments,
    }


def _growth_percent(values: list[int], window: int) -> float:
    return (sum(values[-window:]) / sum(values[:window]) - 1) * 100


def _mib(samples: list[Sample], name: str) -> float:
    """Mean of one process."""
    values = [entry.own_bytes.get(name, 0) for entry in samples]
    return round(sum(values) / len(values) / 2**20, 2)
