"""Streams of items: order, no waiting, bounds, and what fails on either side."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_triton import FakeTriton, picture, serve, text_of

from clients import ClientOptions, PlateClient
from clients.flow import map_batches

ROOT = Path(__file__).resolve().parents[2]


def until(is_true, timeout_s=10.0):
    """Whether it becomes true in time."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def doubled(batch):
    return [2 * item for item in batch]


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 5, 1000])
def test_results_come_in_order(count, in_flight):
    sizes = []

    def work(batch):
        sizes.append(len(batch))
        time.sleep(0.001 * (batch[0] % 3))
        return doubled(batch)

    results = list(map_batches(work, range(count), size=16, in_flight=in_flight))
    assert results == [2 * item for item in range(count)]
    assert max(sizes, default=0) <= 16


def test_a_slow_source_is_answered_at_once():
    """Seen to fail: nothing came before four full batches had been taken."""
    came = []

    def source():
        for item in range(4):
            yield item
            assert until(lambda item=item: came[-1:] == [2 * item])  # before the next one

    for result in map_batches(doubled, source(), size=64, in_flight=4):
        came.append(result)
    assert came == [0, 2, 4, 6]


def test_a_source_that_fails_loses_nothing():
    def source():
        yield from range(5)
        raise KeyError("torn")

    results = map_batches(doubled, source(), size=64, in_flight=2)
    assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
    with pytest.raises(KeyError, match="torn"):
        next(results)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_no_end_of_a_source_is_taken_for_its_last_item(kind):
    """Seen to fail: the stream ended as if it were complete."""

    def source():
        yield 1
        raise kind

    with pytest.raises(kind):
        list(map_batches(doubled, source(), size=4, in_flight=2))


def test_work_that_fails_ends_it_behind_the_results_before():
    def work(batch):
        if 7 in batch:
            raise ValueError("seven")
        return doubled(batch)

    results = map_batches(work, range(100), size=1, in_flight=4)
    assert [next(results) for _ in range(7)] == [0, 2, 4, 6, 8, 10, 12]
    with pytest.raises(ValueError, match="seven"):
        next(results)


def test_what_is_held_is_bounded():
    taken = []

    def source():
        for item in range(1000):
            taken.append(item)
            yield item

    results = map_batches(doubled, source(), size=4, in_flight=2)
    next(results)
    time.sleep(0.3)  # as long as it wants
    # Three times `in_flight` batches, the one that is being handed out, an item in the hand.
    assert len(taken) <= (3 * 2 + 1) * 4 + 1
    results.close()


def test_batches_are_bounded_in_bytes():
    batches = []

    def work(batch):
        batches.append(batch)
        return batch

    items = [b"x" * 60, b"x" * 60, b"x" * 500, b"x"] * 5
    results = list(map_batches(work, items, size=64, in_flight=2, bytes_of=len, max_bytes=100))
    assert results == items
    assert all(len(batch) == 1 or sum(map(len, batch)) <= 100 for batch in batches)


def test_no_thread_stays_behind():
    before = threading.active_count()
    results = map_batches(doubled, iter(range(10**9)), size=4, in_flight=4)
    next(results)
    results.close()
    assert until(lambda: threading.active_count() <= before)


def test_a_program_may_end_in_the_middle():
    code = """
import sys, time
from clients.flow import map_batches
def source():
    yield 1
    time.sleep(3600)
results = map_batches(lambda batch: batch, source(), size=4, in_flight=2)
print(next(results))
sys.exit(7)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, "1\n", "")


def test_a_client_answers_a_slow_source_at_once():
    came: list[str] = []

    def source():
        for seed in range(3):
            yield picture(seed)
            assert until(lambda seed=seed: came[-1:] == [text_of(picture(seed))])

    with serve(FakeTriton()) as fake, PlateClient(fake.url, ClientOptions(in_flight=4)) as client:
        client.read_image(picture(9))  # asks for the limits
        for outcome in client.iter_images(source()):
            came.append(outcome.plate)
    assert came == [text_of(picture(seed)) for seed in range(3)]
