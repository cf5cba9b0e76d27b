"""The asyncio client and its batching awaitable."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from fake_triton import Code, FakeTriton, picture, serve, text_of

from clients import (
    AsyncPlateClient,
    ClientError,
    ClientOptions,
    ConfigurationError,
    DeadlineExceeded,
    InvalidPicture,
    PlateReading,
    RetryPolicy,
    ServerUnavailable,
)
from clients.batching import Batcher

BUSY = (Code.UNAVAILABLE, "Exceeds maximum queue size")


@pytest.fixture
def fake():
    with serve(FakeTriton()) as fake:
        yield fake


def with_client(fake, work, **options):
    """Run `work(client)` in a loop of its own."""

    async def run():
        async with AsyncPlateClient(fake.url, ClientOptions(**options)) as client:
            return await work(client)

    return asyncio.run(run())


def texts(outcomes):
    return [o.plate if isinstance(o, PlateReading) else o.reason for o in outcomes]


@pytest.mark.parametrize("count", [0, 1, 64, 65, 200])
def test_any_number_is_split_and_stays_in_order(fake, count):
    pictures = [picture(i) for i in range(count)]
    outcomes = with_client(fake, lambda client: client.read_images(pictures))
    assert texts(outcomes) == [text_of(p) for p in pictures]
    assert sum(fake.requests) == count


def test_crops(fake):
    crops = np.random.default_rng(1).integers(0, 255, (130, 3, 48, 96), np.uint8)
    readings = with_client(fake, lambda client: client.read_crops(crops))
    assert [r.plate for r in readings] == [text_of(c.tobytes()) for c in crops]


def test_single_calls_are_gathered(fake):
    fake.delay_s = 0.1
    pictures = [picture(i) for i in range(100)]

    async def work(client):
        first = asyncio.create_task(client.read_image(pictures[0]))
        await asyncio.sleep(0.05)  # it is on its way alone
        others = asyncio.gather(*(client.read_image(p) for p in pictures[1:]))
        return [await first, *await others]

    assert texts(with_client(fake, work, in_flight=1)) == [text_of(p) for p in pictures]
    assert fake.requests == [1, 64, 35]


def test_single_crops_are_gathered(fake):
    crops = np.random.default_rng(2).integers(0, 255, (70, 3, 48, 96), np.uint8)

    async def work(client):
        with pytest.raises(ConfigurationError, match=r"uint8 \[2, 48, 96\]"):
            await client.read_crop(crops[0, :2])
        return await asyncio.gather(*(client.read_crop(crop) for crop in crops))

    readings = with_client(fake, work)
    assert [r.plate for r in readings] == [text_of(c.tobytes()) for c in crops]
    assert sorted(fake.requests) == [6, 64]  # two are under way at a time: either may come first


def test_bad_pictures_fail_alone(fake):
    fake.refused = {picture(1), picture(5)}
    pictures = [*(picture(i) for i in range(8)), b"", b"text"]

    async def work(client):
        return await asyncio.gather(
            *(client.read_image(p) for p in pictures), return_exceptions=True
        )

    outcomes = with_client(fake, work)
    assert [isinstance(o, InvalidPicture) for o in outcomes] == [
        i in (1, 5, 8, 9) for i in range(10)
    ]
    assert outcomes[4].plate == text_of(picture(4))


def test_retries_and_budget(fake):
    policy = RetryPolicy(first_delay_s=0.001, max_delay_s=0.001, budget=3)
    fake.faults = [BUSY] * 2

    async def work(client):
        reading = await client.read_image(picture(0))
        assert client.retries == 2
        fake.faults = [BUSY] * 10
        with pytest.raises(ServerUnavailable, match="queue"):
            await client.read_image(picture(0))
        return reading

    assert with_client(fake, work, retry=policy).plate == text_of(picture(0))


def test_deadline(fake):
    fake.delay_s = 2
    with pytest.raises(DeadlineExceeded):
        with_client(fake, lambda client: client.read_image(picture(0)), timeout_s=0.2)


def test_no_server():
    class Nowhere:
        url = "127.0.0.1:9"

    with pytest.raises(ServerUnavailable):
        with_client(Nowhere, lambda c: c.read_image(picture(0)), connect_timeout_s=0.3)


def test_stream_keeps_order_and_bounds_what_it_takes(fake):
    taken = 0

    async def endless():
        nonlocal taken
        while True:
            taken += 1
            yield picture(taken)
            await asyncio.sleep(0)

    async def work(client):
        outcomes = []
        stream = client.stream_images(endless())
        async for outcome in stream:
            outcomes.append(outcome)
            if len(outcomes) == 100:
                break
        await asyncio.sleep(0.3)  # a reader that dawdles
        await stream.aclose()
        return outcomes

    outcomes = with_client(fake, work, in_flight=2)
    assert texts(outcomes) == [text_of(picture(i)) for i in range(1, 101)]
    assert taken <= 100 + 4 * 64 + 2


def test_stream_passes_the_sources_error_on(fake):
    async def broken():
        yield picture(0)
        raise OSError("camera gone")

    async def work(client):
        async for outcome in client.stream_images(broken()):
            assert outcome.plate == text_of(picture(0))

    with pytest.raises(OSError, match="camera gone"):
        with_client(fake, work)


def test_close_ends_calls_under_way(fake):
    fake.delay_s = 5

    async def work(client):
        call = asyncio.create_task(client.read_image(picture(0)))
        await asyncio.sleep(0.3)
        await client.close()
        with pytest.raises(ClientError, match="closed"):
            await call
        with pytest.raises(ClientError, match="closed"):
            await client.read_image(picture(0))

    begin = time.monotonic()
    with_client(fake, work)
    assert time.monotonic() - begin < 3


@pytest.mark.parametrize("what", ["read_images", "read_crops"])
def test_close_does_not_look_like_a_cancellation(fake, what):
    """Seen to fail: the caller got CancelledError, which ends a task without a word."""
    fake.delay_s = 5
    given = [picture(0)] if what == "read_images" else np.zeros((1, 3, 48, 96), np.uint8)

    async def work(client):
        call = asyncio.create_task(getattr(client, what)(given))
        await asyncio.sleep(0.3)
        await client.close()
        with pytest.raises(ClientError, match="closed"):
            await call

    async def leave(client):
        call = asyncio.create_task(getattr(client, what)(given))
        await asyncio.sleep(0.3)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    with_client(fake, work)
    with_client(fake, leave)


def test_a_wrong_type_fails_alone(fake):
    """Seen to fail: the pictures that were gathered with it failed as well."""

    async def work(client):
        calls = (client.read_image(p) for p in (picture(0), "x", bytearray(picture(1))))
        return await asyncio.gather(*calls, return_exceptions=True)

    good, bad, other = with_client(fake, work)
    assert [good.plate, other.plate] == [text_of(picture(0)), text_of(picture(1))]
    assert isinstance(bad, TypeError)


def test_shared_memory_is_refused():
    with pytest.raises(ConfigurationError, match="PlateClient"):
        asyncio.run(_shared())


async def _shared():
    AsyncPlateClient("h:1", ClientOptions(shared_memory=True))


def test_batcher_passes_errors_to_all_and_goes_on():
    async def run():
        async def work(items):
            await asyncio.sleep(0)
            if 3 in items:
                raise ValueError("three")
            return [item * 2 for item in items]

        batcher = Batcher(work, in_flight=1, limit=4)
        results = await asyncio.gather(
            *(batcher.submit(i) for i in range(8)), return_exceptions=True
        )
        assert [str(r) for r in results[:4]] == ["three"] * 4
        assert results[4:] == [8, 10, 12, 14]
        gone = batcher.submit(100)
        gone.cancel()
        assert await batcher.submit(21) == 42

    asyncio.run(run())
