"""Clients in several processes: forked, forgotten, killed beside them; errors that travel."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from fake_triton import FakeTriton, serve

import clients
from clients import ClientError, ClientOptions, ConfigurationError, PlateClient, shared_memory
from clients.errors import RegionLost, ServerUnreachable
from clients.retry import RequestIds
from lprnet.errors import ImageError

ROOT = Path(__file__).resolve().parents[2]
CROP = np.zeros((1, 3, 48, 96), np.uint8)
WITH_MEMORY = ClientOptions(timeout_s=5, shared_memory=True)

ERRORS = [
    clients.InvalidPicture("truncated", "its end is missing", 3),
    clients.ServerError("INTERNAL", "told to fail"),
    clients.ModelNotFound("NOT_FOUND", "no such model"),
    clients.AccessDenied("PERMISSION_DENIED", "no"),
    RegionLost("NOT_FOUND", "gone"),
    ServerUnreachable("nobody"),
    clients.DeadlineExceeded("too late"),
    clients.ConfigurationError("wrong"),
    ImageError("empty", "0 bytes"),
]


@pytest.fixture
def fake():
    with serve(FakeTriton()) as fake:
        yield fake


def segments(process: int) -> list[str]:
    return [p.name for p in Path("/dev/shm").glob(f"{shared_memory.PREFIX}{process}_*")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "travel", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_errors_travel_between_processes(error, travel):
    """Seen to fail: a pool of processes hung at the first picture that could not be read."""
    if isinstance(error, ClientError):
        error.request_id = "abc-1"
    there = travel(error)
    assert type(there) is type(error)
    assert str(there) == str(error)
    assert vars(there) == vars(error)


def in_a_fork(work) -> int:
    """Exit code of a forked process that does `work`."""
    process = os.fork()
    if process == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_leaves_the_parents_regions_alone(fake):
    """Seen to fail: both wrote their pictures into the same memory, and read wrong plates."""
    pool = shared_memory.RegionPool()
    with pool.loan(10) as region:
        name = region.memory.name

    def child():
        with pool.loan(10) as mine:
            assert mine.memory.name != name
            assert str(os.getpid()) in mine.memory.name
        for mine in pool.drain():
            mine.memory.free()

    assert in_a_fork(child) == 0
    with pool.loan(10) as region:
        assert region.memory.name == name
        region.memory.write(np.ones(10, np.uint8))
    (region,) = pool.drain()
    region.memory.free()
    assert not segments(os.getpid())


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_request_ids_of_forked_processes_differ():
    ids = RequestIds()
    client = ids.next().split("-")[0]

    def child():
        assert ids.next().split("-")[0] != client

    assert in_a_fork(child) == 0
    assert ids.next() == f"{client}-2"


def test_a_client_that_nobody_closes_leaves_nothing():
    with serve(FakeTriton()) as fake:
        code = f"""
import gc, os, numpy as np, pathlib
from clients import ClientOptions, PlateClient
crop = np.zeros((1, 3, 48, 96), np.uint8)
def here(): return len(list(pathlib.Path("/dev/shm").glob(f"lprnet_client_{{os.getpid()}}_*")))
client = PlateClient({fake.url!r}, ClientOptions(shared_memory=True))
client.read_crops(crop)
print(here())
del client
gc.collect()
print(here())
left = PlateClient({fake.url!r}, ClientOptions(shared_memory=True))
left.read_crops(crop)
print(os.getpid())
"""
        ran = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (ran.returncode, ran.stderr) == (0, "")
    first, then, process = ran.stdout.split()
    assert (first, then) == ("1", "0")
    assert not segments(int(process))


def test_a_full_dev_shm_is_an_error_and_not_the_end(fake, monkeypatch):
    """Seen to fail: SIGBUS at the first picture, since nothing had reserved the pages."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (
        PlateClient(fake.url, WITH_MEMORY) as client,
        pytest.raises(ConfigurationError, match="No space left"),
    ):
        client.read_crops(CROP)
    assert not segments(os.getpid())


def test_pages_are_reserved():
    memory = shared_memory.SystemMemory(f"{shared_memory.PREFIX}{os.getpid()}_pages", 1 << 20)
    try:
        status = os.stat(f"/dev/shm/{memory.name}")
        assert status.st_blocks * 512 >= 1 << 20
    finally:
        memory.free()


def test_memory_that_somebody_removed_is_no_error(fake):
    client = PlateClient(fake.url, WITH_MEMORY)
    client.read_crops(CROP)
    for name in segments(os.getpid()):
        (Path("/dev/shm") / name).unlink()
    client.close()
    assert not fake.regions


class SlowToRegister(FakeTriton):
    """Answers a registration when it is told to."""

    registering, go_on = threading.Event(), threading.Event()

    def SystemSharedMemoryRegister(self, request, context):
        self.registering.set()
        self.go_on.wait(5)
        return super().SystemSharedMemoryRegister(request, context)


def test_close_while_a_region_is_being_registered():
    """Seen to fail: the server knew the region for ever."""
    ended: list[ClientError] = []

    def read():
        try:
            client.read_crops(CROP)
        except ClientError as error:
            ended.append(error)

    with serve(SlowToRegister()) as fake:
        client = PlateClient(fake.url, WITH_MEMORY)
        reader = threading.Thread(target=read)
        reader.start()
        assert fake.registering.wait(5)
        closer = threading.Thread(target=client.close)
        closer.start()
        fake.go_on.set()
        closer.join(10)
        reader.join(10)
        assert ended
        assert not fake.regions
    assert not segments(os.getpid())
