"""Shared memory of a client whose server fails: nothing stays behind, no deadline is overrun."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import numpy as np
import pytest
from fake_triton import Code, FakeTriton, serve

from clients import ClientError, ClientOptions, DeadlineExceeded, PlateClient
from clients.shared_memory import PREFIX

CROP = np.zeros((1, 3, 48, 96), np.uint8)
LOST = (Code.NOT_FOUND, "Unable to find shared memory region: 'x'")


@pytest.fixture
def fake():
    with serve(FakeTriton()) as fake:
        yield fake


def segments() -> list[str]:
    return [p.name for p in Path("/dev/shm").glob(f"{PREFIX}{os.getpid()}_*")]


def connected(fake: FakeTriton, timeout_s: float = 5.0) -> PlateClient:
    client = PlateClient(fake.url, ClientOptions(timeout_s=timeout_s, shared_memory=True))
    client.read_crops(CROP)
    assert len(segments()) == len(fake.regions) == 1
    return client


def test_close_tells_the_server(fake):
    connected(fake).close()
    assert not segments()
    assert not fake.regions


def test_close_beside_a_server_that_hangs(fake, caplog):
    """Seen to fail when only a server that is gone was expected."""
    client = connected(fake)
    fake.delay_s = 3
    begin = time.monotonic()
    with caplog.at_level(logging.WARNING):
        client.close()
    assert time.monotonic() - begin < 2
    assert not segments()
    assert "did not answer in time" in caplog.text


def test_close_waits_for_a_server_that_still_uses_the_memory(fake, caplog):
    """Triton answers a request before it lets go of its input. Seen to fail with one try."""
    client = connected(fake)
    fake.faults = [(Code.INTERNAL, "Cannot unregister 'x', it is currently in use.")] * 3
    with caplog.at_level(logging.WARNING):
        client.close()
    assert not segments()
    assert not fake.regions
    assert not caplog.records


def test_close_beside_a_server_that_refuses(fake, caplog):
    client = connected(fake)
    fake.faults = [(Code.INTERNAL, "told to fail")]
    with caplog.at_level(logging.WARNING):
        client.close()
    assert not segments()
    assert "told to fail" in caplog.text


def test_a_closed_client_takes_no_memory(fake):
    """Seen to fail: the segment was nobody's."""
    client = connected(fake)
    client.close()
    with pytest.raises(ClientError, match="closed"):
        client.read_crops(CROP)
    assert not segments()


def test_one_deadline_also_where_the_server_was_started_anew(fake):
    """Seen to fail: the call was sent again with a deadline of its own."""
    with connected(fake, timeout_s=1.0) as client:
        fake.delay_s, fake.faults = 0.7, [LOST]
        begin = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.read_crops(CROP)
        assert time.monotonic() - begin < 1.3
        fake.delay_s = 0
