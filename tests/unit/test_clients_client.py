"""The blocking client against a real gRPC connection whose far end fails on command."""

from __future__ import annotations

import threading
import time

import cv2
import numpy as np
import pytest
from fake_triton import Code, FakeTriton, picture, serve, text_of

from clients import (
    AccessDenied,
    ClientError,
    ClientOptions,
    ConfigurationError,
    DeadlineExceeded,
    InvalidPicture,
    PlateClient,
    PlateReading,
    RetryPolicy,
    ServerError,
    ServerUnavailable,
    Tls,
)

QUICK = ClientOptions(timeout_s=5, retry=RetryPolicy(first_delay_s=0.01))
BUSY = (Code.UNAVAILABLE, "Exceeds maximum queue size")


@pytest.fixture
def fake():
    with serve(FakeTriton()) as fake:
        yield fake


@pytest.fixture
def client(fake):
    with PlateClient(fake.url, QUICK) as client:
        yield client


def texts(outcomes):
    return [o.plate if isinstance(o, PlateReading) else o.reason for o in outcomes]


def test_one_picture(client):
    reading = client.read_image(picture(0))
    assert reading == PlateReading(text_of(picture(0)), 0.5**7, (0.5,) * 7)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 200])
def test_any_number_is_split_and_stays_in_order(client, fake, count):
    pictures = [picture(i) for i in range(count)]
    assert texts(client.read_images(pictures)) == [text_of(p) for p in pictures]
    assert sorted(fake.requests) == sorted([64] * (count // 64) + [count % 64] * (count % 64 > 0))


def test_large_pictures_are_not_gathered_in_one_request(client, fake):
    noise = np.random.default_rng(0).integers(0, 255, (1200, 1200, 3), np.uint8)
    large = [cv2.imencode(".png", noise + np.uint8(i))[1].tobytes() for i in range(4)]
    assert all(4e6 < len(data) < 8e6 for data in large)
    assert texts(client.read_images(large)) == [text_of(data) for data in large]
    assert fake.requests == [1, 1, 1, 1]


def test_crops(client, fake):
    crops = np.random.default_rng(1).integers(0, 255, (130, 3, 48, 96), np.uint8)
    assert [r.plate for r in client.read_crops(crops)] == [text_of(c.tobytes()) for c in crops]
    assert sorted(fake.requests) == [2, 64, 64]


@pytest.mark.parametrize(
    "crops",
    [
        np.zeros((1, 48, 96, 3), np.uint8),
        np.zeros((3, 48, 96), np.uint8),
        np.zeros((1, 3, 48, 96), np.float32),
    ],
)
def test_wrong_crops_are_refused_with_the_right_shape(client, fake, crops):
    with pytest.raises(ConfigurationError, match=r"uint8 \[N, 3, 48, 96\]"):
        client.read_crops(crops)
    assert fake.requests == []


def test_two_failures_are_retried(client, fake):
    fake.faults = [BUSY, BUSY]
    assert client.read_image(picture(1)).plate == text_of(picture(1))
    assert client.retries == 2


def test_a_server_that_is_being_stopped_is_retried(client, fake):
    """Its models go first: for a moment it answers NOT_FOUND. Seen to fail: it was final."""
    words = "Request for unknown model: 'lpr_image' has no available versions"
    fake.faults = [(Code.NOT_FOUND, words)] * 2
    assert client.read_image(picture(0)).plate == text_of(picture(0))
    assert client.retries == 2


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_like_pictures(client, kind):
    assert client.read_image(kind(picture(0))).plate == text_of(picture(0))
    assert texts(client.read_images([kind(picture(1))])) == [text_of(picture(1))]


@pytest.mark.parametrize("wrong", ["plate.jpg", None, np.zeros(3, np.uint8)])
def test_what_is_no_picture_at_all(client, wrong):
    with pytest.raises(TypeError, match="bytes of its file"):
        client.read_image(wrong)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), 1e10])
def test_deadlines_that_grpc_cannot_keep(seconds):
    with pytest.raises(ConfigurationError, match=r"at most 1e\+08 seconds"):
        ClientOptions(timeout_s=seconds)


def test_dead_stub_is_retried_another_internal_error_is_not(client, fake):
    fake.faults = [(Code.INTERNAL, "Stub process 'lprnet_0' is not healthy.")]
    assert client.read_image(picture(1)).plate == text_of(picture(1))
    fake.faults = [(Code.INTERNAL, "out of memory")]
    with pytest.raises(ServerError, match="INTERNAL: out of memory"):
        client.read_image(picture(1))
    assert len(fake.requests) == 3


def test_budget_ends_the_retries(fake):
    policy = RetryPolicy(first_delay_s=0.001, max_delay_s=0.001, budget=3)
    fake.faults = [BUSY] * 20
    with PlateClient(fake.url, ClientOptions(timeout_s=5, retry=policy)) as client:
        with pytest.raises(ServerUnavailable, match="maximum queue size"):
            client.read_image(picture(0))
        assert fake.requests == [1] * 4  # the first attempt and three retries
        with pytest.raises(ServerUnavailable):
            client.read_image(picture(0))
        assert len(fake.requests) == 5


def test_deadline_covers_all_attempts(fake):
    fake.delay_s = 0.4
    fake.faults = [BUSY] * 50
    with PlateClient(fake.url, ClientOptions(timeout_s=1)) as client:
        client.image_contract  # noqa: B018 - asks the server now
        begin = time.monotonic()
        with pytest.raises((DeadlineExceeded, ServerUnavailable)):
            client.read_image(picture(0))
        assert 0.4 < time.monotonic() - begin < 1.3


def test_slow_server_meets_the_deadline(fake):
    fake.delay_s = 3
    with (
        PlateClient(fake.url, ClientOptions(timeout_s=0.3)) as client,
        pytest.raises(DeadlineExceeded, match="in time"),
    ):
        client.read_image(picture(0))


def test_server_that_comes_back_is_found():
    with serve(FakeTriton()) as first:
        url = first.url
        client = PlateClient(url, ClientOptions(timeout_s=20))
        assert client.read_image(picture(1)).plate == text_of(picture(1))
    with client:
        answers: list[str] = []
        reader = threading.Thread(
            target=lambda: answers.append(client.read_image(picture(2)).plate)
        )
        reader.start()
        time.sleep(1.0)
        with serve(FakeTriton(), int(url.rpartition(":")[2])):
            reader.join(10)
        assert answers == [text_of(picture(2))]
        assert client.retries > 0


def test_no_server_fails_soon():
    options = ClientOptions(connect_timeout_s=0.5)
    begin = time.monotonic()
    with (
        PlateClient("127.0.0.1:9", options) as client,
        pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:9"),
    ):
        client.read_image(picture(0))
    assert time.monotonic() - begin < 2


def test_bad_headers_never_leave_the_client(client, fake):
    good = [picture(i) for i in range(3)]
    pictures = [good[0], b"", good[1], b"text", good[2][:-20], good[2]]
    assert texts(client.read_images(pictures)) == [
        text_of(good[0]),
        "empty",
        text_of(good[1]),
        "not_an_image",
        "truncated",
        text_of(good[2]),
    ]
    assert fake.requests == [3]


@pytest.mark.parametrize("names_index", [True, False])
@pytest.mark.parametrize("bad", [(0,), (9,), (2, 5), (0, 1, 2, 3, 4, 5, 6), range(10)])
def test_refused_pictures_do_not_lose_their_neighbours(client, fake, names_index, bad):
    pictures = [picture(i) for i in range(10)]
    fake.refused = {pictures[i] for i in bad}
    fake.names_index = names_index
    assert texts(client.read_images(pictures)) == [
        "corrupt" if i in bad else text_of(p) for i, p in enumerate(pictures)
    ]
    if names_index and len(bad) <= 2:
        assert fake.requests == [10, *(10 - n for n in range(1, len(bad) + 1))]


def test_refused_single_picture_raises(client, fake):
    fake.refused = {picture(3)}
    with pytest.raises(InvalidPicture, match=r"^the picture does not decode$") as caught:
        client.read_image(picture(3))
    assert caught.value.reason == "corrupt"


def test_invalid_argument_about_something_else_is_the_servers(client, fake):
    fake.faults = [(Code.INVALID_ARGUMENT, "unexpected shape for input 'encoded'")]
    with pytest.raises(ServerError, match="unexpected shape"):
        client.read_images([picture(0), picture(1)])


def test_restricted_protocol_is_not_retried(client, fake):
    fake.faults = [(Code.UNAVAILABLE, "This protocol is restricted, expecting header 'x'")]
    with pytest.raises(AccessDenied):
        client.read_image(picture(0))
    assert client.retries == 0


def test_headers_are_sent(fake):
    with PlateClient(fake.url, ClientOptions(headers={"x-key": "secret"})) as client:
        client.read_image(picture(0))
    assert fake.metadata[0]["x-key"] == "secret"


def test_closed_client_says_so(fake):
    client = PlateClient(fake.url)
    client.close()
    client.close()
    with pytest.raises(ClientError, match="closed"):
        client.read_image(picture(0))


def test_close_ends_calls_under_way(fake):
    fake.delay_s = 3
    client = PlateClient(fake.url)
    client.image_contract  # noqa: B018
    threading.Timer(0.3, client.close).start()
    begin = time.monotonic()
    with pytest.raises(ClientError):
        client.read_image(picture(0))
    assert time.monotonic() - begin < 2


def test_memory_stays_bounded_in_a_stream(client, fake):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield picture(0)

    stream = client.iter_images(endless())
    for _ in range(64):
        next(stream)
    stream.close()
    assert taken <= 64 * 6


def test_files(client, tmp_path):
    good = tmp_path / "good.jpg"
    good.write_bytes(picture(0))
    (tmp_path / "text.jpg").write_text("no picture")
    rows = client.read_files(
        [str(good), str(tmp_path / "text.jpg"), str(tmp_path / "none.jpg"), str(tmp_path)]
    )
    assert rows[0].reading is not None
    assert rows[0].reading.plate == text_of(picture(0))
    assert [row.error and row.error.partition(":")[0] for row in rows] == [
        None,
        "not a picture",
        "no such file or directory",
        "is a folder",
    ]


@pytest.mark.parametrize(
    "url", ["http://h:8001", "h:", ":8001", "a:b", "h:0", "h:1/x", "::1", "::1:80"]
)
def test_malformed_address(url):
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        PlateClient(url)


def test_address_from_the_environment(monkeypatch):
    monkeypatch.setenv("LPRNET_URL", "grpc://plates.example")
    with PlateClient() as client:
        assert client.url == "plates.example:8001"
    monkeypatch.delenv("LPRNET_URL")
    with PlateClient() as client:
        assert client.url == "127.0.0.1:8001"


def test_certificates_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.pem"):
        PlateClient("h:1", ClientOptions(tls=Tls(ca_file=tmp_path / "none.pem")))
    with pytest.raises(ConfigurationError, match="key"):
        Tls(cert_file=tmp_path / "cert.pem")
