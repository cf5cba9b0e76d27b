"""What a caller may do wrong: one clear error of ours, at once, and nothing is lost."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import time

import numpy as np
import pytest
from fake_triton import Code, FakeTriton, picture, serve, text_of

from clients import (
    AsyncPlateClient,
    ClientOptions,
    ConfigurationError,
    DeadlineExceeded,
    PlateClient,
    RetryPolicy,
    ServerError,
    ServerUnavailable,
)

CROP = np.zeros((3, 48, 96), np.uint8)


@pytest.fixture
def fake():
    with serve(FakeTriton()) as fake:
        yield fake


@pytest.mark.parametrize("crops", [None, [[1, 2]], "crop"])
def test_crops_that_are_no_array(fake, crops):
    async def read():
        async with AsyncPlateClient(fake.url) as client:
            await client.read_crop(crops)

    with PlateClient(fake.url) as client, pytest.raises(ConfigurationError, match="numpy array"):
        client.read_crops(crops)
    with pytest.raises(ConfigurationError, match="numpy array"):
        asyncio.run(read())


def test_one_path_instead_of_several(fake):
    """Seen to fail: one row for each letter."""
    with PlateClient(fake.url) as client, pytest.raises(TypeError, match=r"\['a.jpg'\]"):
        client.read_files("a.jpg")


@pytest.mark.parametrize("url", [3, b"127.0.0.1:1", "\udcff:8001", "foo bar:8001", "h:٣"])
def test_addresses_of_another_kind(url):
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        PlateClient(url)


def test_a_trailing_slash_does_no_harm(fake):
    with PlateClient(f"grpc://{fake.url}/") as client:
        assert client.read_image(picture(1)).plate == text_of(picture(1))


@pytest.mark.parametrize(
    "headers",
    [{"Upper": "x"}, {"näme": "x"}, {"name": "x\n"}, {"name": "é"}, {"x-bin": "x"}, {"x": 1}],
)
def test_headers_that_grpc_would_refuse(headers):
    with pytest.raises(ConfigurationError, match="header"):
        ClientOptions(headers=headers)


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_delay_s": 0},
        {"first_delay_s": -1},
        {"first_delay_s": math.nan},
        {"first_delay_s": 2, "max_delay_s": 1},
        {"max_delay_s": math.inf},
        {"budget": -1},
        {"earned_per_success": math.nan},
    ],
)
def test_retries_that_would_never_pause(wrong):
    with pytest.raises(ConfigurationError):
        RetryPolicy(**wrong)


def test_an_asyncio_client_may_be_made_before_its_loop(fake):
    client = AsyncPlateClient(fake.url)

    async def read():
        async with client:
            return await client.read_image(picture(1))

    assert asyncio.run(read()).plate == text_of(picture(1))


def test_an_asyncio_client_in_a_second_loop(fake):
    """Seen to fail with a RuntimeError of asyncio's, and coroutines that nobody awaited."""
    client = AsyncPlateClient(fake.url)
    asyncio.run(client.read_images([picture(1)]))
    with pytest.raises(ConfigurationError, match="belongs to the event loop of its first call"):
        asyncio.run(client.read_images([picture(2)]))


def test_many_first_calls_ask_for_the_limits_once(fake, monkeypatch):
    asked = []
    answer = FakeTriton.ModelConfig
    monkeypatch.setattr(
        FakeTriton,
        "ModelConfig",
        lambda self, request, context: asked.append(request.name) or answer(self, request, context),
    )
    with serve(FakeTriton()) as fake:

        async def read():
            async with AsyncPlateClient(fake.url) as client:
                await asyncio.gather(*(client.read_crop(CROP) for _ in range(50)))

        asyncio.run(read())
    assert asked == ["lpr"]


def test_many_first_calls_to_a_server_that_is_down_fail_together():
    """Seen to fail: each waited for the one before and then asked anew."""
    options = ClientOptions(timeout_s=1, connect_timeout_s=1)

    async def read():
        async with AsyncPlateClient("127.0.0.1:9", options) as client:
            calls = (client.read_images([picture(1)]) for _ in range(10))
            return await asyncio.gather(*calls, return_exceptions=True)

    begin_s = time.monotonic()
    errors = asyncio.run(read())
    assert all(isinstance(error, ServerUnavailable) for error in errors)
    assert time.monotonic() - begin_s < 5  # one after another they take 10


def test_a_first_call_that_is_cancelled_ends_nobody_elses(fake):
    fake.delay_s = 0.2

    async def read():
        async with AsyncPlateClient(fake.url) as client:
            first, second = (asyncio.create_task(client.read_crop(CROP)) for _ in range(2))
            await asyncio.sleep(0)
            first.cancel()
            return await second

    assert asyncio.run(read()).plate == text_of(CROP.tobytes())


def test_one_clients_hanging_server_holds_up_no_other_client(fake):
    """Seen to fail: functools.cached_property has one lock for a class."""

    class Hanging(FakeTriton):
        def ModelConfig(self, request, context):
            time.sleep(4)
            return super().ModelConfig(request, context)

    def ask(client):
        _ = client.crop_contract

    patient = ClientOptions(connect_timeout_s=30)
    with (
        serve(Hanging()) as slow,
        PlateClient(slow.url, patient) as one,
        PlateClient(fake.url) as other,
    ):
        waiting = threading.Thread(target=ask, args=(one,))
        waiting.start()
        time.sleep(0.2)
        begin_s = time.monotonic()
        ask(other)
        assert time.monotonic() - begin_s < 3
        waiting.join()


def test_a_stream_that_fails_leaves_no_exception_unseen(fake):
    """Seen to fail: the picture that waited for room in the queue was forgotten."""
    fake.fail_after, fake.delay_s = 0, 0.3
    complaints = []
    data = picture(1)

    async def source():
        for _ in range(1000):
            yield data

    async def read():
        asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
        async with AsyncPlateClient(fake.url, ClientOptions(in_flight=1)) as client:
            outcomes = client.stream_images(source())
            with pytest.raises(ServerError):
                async for _ in outcomes:
                    pass
            await outcomes.aclose()

    asyncio.run(read())
    gc.collect()  # asyncio complains of an exception when nobody can look at it any more
    assert not complaints


def test_callers_of_one_batch_have_errors_of_their_own(fake):
    fake.fail_after = 0

    async def read():
        async with AsyncPlateClient(fake.url) as client:
            calls = (client.read_image(picture(seed)) for seed in range(5))
            return await asyncio.gather(*calls, return_exceptions=True)

    errors = asyncio.run(read())
    assert len({id(error) for error in errors}) == 5
    assert {type(error) for error in errors} == {ServerError}


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_one_deadline_for_a_batch_with_many_bad_pictures(fake, kind):
    """Seen to fail: every one of its requests had a deadline of its own."""
    pictures = [picture(seed) for seed in range(40)]
    fake.refused, fake.delay_s = set(pictures), 0.3
    options = ClientOptions(timeout_s=1)

    def blocking():
        with PlateClient(fake.url, options) as client:
            client.read_images(pictures)

    async def in_a_loop():
        async with AsyncPlateClient(fake.url, options) as client:
            await client.read_images(pictures)

    begin_s = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        blocking() if kind == "blocking" else asyncio.run(in_a_loop())
    assert time.monotonic() - begin_s < 3


def test_shared_memory_with_a_server_elsewhere(fake):
    fake.faults = [(Code.INTERNAL, "Unable to open shared memory region: '/x'")]
    options = ClientOptions(shared_memory=True)
    with (
        PlateClient(fake.url, options) as client,
        pytest.raises(ServerError, match="on the same machine that shares the client's /dev/shm"),
    ):
        client.read_crops(CROP[np.newaxis])


def test_a_proxy_is_not_for_this_machine(fake, monkeypatch):
    """Seen to fail: gRPC takes http_proxy for the loopback, too."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with PlateClient(fake.url, ClientOptions(timeout_s=5)) as client:
        assert client.read_image(picture(1)).plate == text_of(picture(1))
