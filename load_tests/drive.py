"""Closed-loop load: a number of workers, each with one request under way at any time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

Ask = Callable[[int], int]
"""Make request number i and wait for its plates; returns how many they are."""
AskAsync = Callable[[int], Awaitable[int]]

LEAD_IN_S: Final = 0.1
"""Of load before the clock starts, one request of each worker at least: connections, caches."""
STRIDE: Final = 7919
"""Workers start at different pictures."""


@dataclass(frozen=True)
class Timed:
    """What the workers of one spell saw.

    Attributes:
        latencies_s: of every request.
        plates: read in all.
        wall_s: start of the first to the end of the last.
    """

    latencies_s: tuple[float, ...]
    plates: int
    wall_s: float


def drive_threads(asks: list[Ask], seconds: float, on_start: Callable[[], None]) -> Timed:
    """Run each function in a thread of its own until `seconds` have passed.

    Args:
        asks: one per worker.
        seconds: a request that has begun is waited for.
        on_start: called when all workers are warm, before the clock starts.

    Raises:
        the first exception that a worker raised.
    """
    latencies: list[list[float]] = [[] for _ in asks]
    plates = [0] * len(asks)
    errors: list[BaseException] = []
    begun: list[float] = []

    def start() -> None:
        on_start()
        begun.append(time.perf_counter())

    barrier = threading.Barrier(len(asks), action=start)

    def work(worker: int) -> None:
        ask, mine = asks[worker], latencies[worker]
        index = worker * STRIDE
        try:
            warm = time.perf_counter() + LEAD_IN_S
            ask(index)
            while time.perf_counter() < warm:
                index += 1
                ask(index)
            barrier.wait()
            now = begun[0]
            deadline = now + seconds
            while now < deadline:
                plates[worker] += ask(index)
                index += 1
                then, now = now, time.perf_counter()
                mine.append(now - then)
        except threading.BrokenBarrierError:
            pass  # another worker failed, and its error is kept
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(len(asks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    wall_s = time.perf_counter() - begun[0]
    return Timed(tuple(each for mine in latencies for each in mine), sum(plates), wall_s)


async def drive_tasks(
    ask: AskAsync, concurrency: int, seconds: float, on_start: Callable[[], None]
) -> Timed:
    """The same with tasks of one event loop."""
    latencies: list[float] = []
    plates = 0

    async def warm(index: int, deadline: float) -> int:
        await ask(index)
        while time.perf_counter() < deadline:
            index += 1
            await ask(index)
        return index

    async def work(index: int, deadline: float) -> None:
        nonlocal plates
        now = time.perf_counter()
        while now < deadline:
            got = await ask(index)  # `plates += await` would read the sum before it waits
            plates += got
            index += 1
            then, now = now, time.perf_counter()
            latencies.append(now - then)

    begin = time.perf_counter()
    firsts = range(0, concurrency * STRIDE, STRIDE)
    reached = await asyncio.gather(*(warm(first, begin + LEAD_IN_S) for first in firsts))
    on_start()
    begin = time.perf_counter()
    await asyncio.gather(*(work(first, begin + seconds) for first in reached))
    return Timed(tuple(latencies), plates, time.perf_counter() - begin)
