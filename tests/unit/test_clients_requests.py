"""Requests and answers: ids, priority, shared memory in a GPU, what an answer must hold."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import struct

import pytest
from fake_triton import Code, FakeTriton, picture, serve
from tritonclient.grpc import service_pb2

import lprnet_cli
from clients import (
    AsyncPlateClient,
    ClientError,
    ClientOptions,
    ConfigurationError,
    PlateClient,
    PlateReading,
    RetryPolicy,
    ServerError,
    wire,
)

QUICK = ClientOptions(timeout_s=20, retry=RetryPolicy(first_delay_s=0.01))
BUSY = (Code.UNAVAILABLE, "Exceeds maximum queue size")


@pytest.fixture
def fake():
    with serve(FakeTriton()) as fake:
        yield fake


def test_each_request_has_its_own_id_and_a_repeated_one_keeps_it(fake, caplog):
    caplog.set_level(logging.INFO, "clients.retry")
    with PlateClient(fake.url, QUICK) as client, PlateClient(fake.url, QUICK) as other:
        client.read_image(picture(0))
        fake.faults.append(BUSY)
        client.read_image(picture(1))
        other.read_image(picture(2))
    first, refused, again, others = fake.ids
    assert refused == again
    assert len({first, again, others}) == 3
    assert first.split("-")[0] == again.split("-")[0] != others.split("-")[0]
    (record,) = caplog.records
    assert again in record.getMessage()
    assert "Exceeds maximum queue size" in record.getMessage()


def test_an_error_names_the_request(fake):
    fake.fail_after = 0
    with PlateClient(fake.url, QUICK) as client, pytest.raises(ServerError) as caught:
        client.read_image(picture(0))
    assert caught.value.request_id == fake.ids[0]
    assert str(caught.value).endswith(f"told to fail [request {fake.ids[0]}]")


def test_asyncio_client_names_its_requests_too(fake):
    fake.fail_after = 0

    async def read():
        async with AsyncPlateClient(fake.url, QUICK) as client:
            await client.read_image(picture(0))

    with pytest.raises(ServerError) as caught:
        asyncio.run(read())
    assert caught.value.request_id == fake.ids[0] != ""


def has_gpu() -> bool:
    if importlib.util.find_spec("cuda") is None:
        return False
    from clients.cuda_memory import check_device

    try:
        check_device(0)
    except ConfigurationError:
        return False
    return True


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_without_a_gpu_its_memory_is_refused_at_once(tmp_path, capsys):
    with pytest.raises(ConfigurationError, match="CUDA shared memory"):
        PlateClient("127.0.0.1:1", ClientOptions(cuda_device=0))
    picture_file = tmp_path / "a.jpg"
    picture_file.write_bytes(picture(0))
    assert lprnet_cli.main(["read", str(picture_file), "--cuda-shared-memory", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "CUDA shared memory" in line


@pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU and cuda-python")
def test_a_gpu_s_memory_takes_and_gives_back_bytes():
    import numpy as np

    from clients.cuda_memory import CudaMemory, cuda_module

    memory = CudaMemory("lprnet_client_test", 8, 0)
    try:
        memory.write(np.arange(8, dtype=np.uint8))
        found = cuda_module().get_contents_as_numpy(memory._handle, np.uint8, [8])
        assert found.tolist() == list(range(8))
    finally:
        memory.free()


def test_a_gpu_that_fails_later_is_told_in_our_words(fake, monkeypatch):
    """A stand-in for tritonclient's module, as there is no GPU: its exceptions are of any kind."""

    class Failing:
        def __getattr__(self, name):
            def call(*_):
                if name == "set_shared_memory_region":
                    raise RuntimeError("an illegal memory access\nwas met")

            return call

    monkeypatch.setattr("clients.cuda_memory.cuda_module", Failing)
    with (
        PlateClient(fake.url, ClientOptions(cuda_device=0)) as client,
        pytest.raises(ClientError, match=r"GPU 0 failed \(an illegal memory access\)"),
    ):
        client.read_image(picture(0))


def test_priority_is_sent(fake):
    for priority in (0, 1):
        options = ClientOptions(timeout_s=20, priority=priority)
        with PlateClient(fake.url, options) as client:
            client.read_image(picture(0))
    assert fake.priorities == [0, 1]


@pytest.mark.parametrize(
    "wrong", [{"priority": 3}, {"cuda_device": -1}, {"cuda_device": 0, "shared_memory": True}]
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        ClientOptions(**wrong)


def test_the_asyncio_client_has_no_gpu_memory():
    async def make():
        AsyncPlateClient("h:1", ClientOptions(cuda_device=0))

    with pytest.raises(ConfigurationError, match="use PlateClient"):
        asyncio.run(make())


def answer_of(plates: bytes, confidences: list[float], characters: list[float]):
    answer = service_pb2.ModelInferResponse()
    floats = (struct.pack(f"<{len(v)}f", *v) for v in (confidences, characters))
    for name, content in zip(
        ("plate", "confidence", "char_confidences"), (plates, *floats), strict=True
    ):
        answer.outputs.add(name=name)
        answer.raw_output_contents.append(content)
    return answer


AB = b"\x02\0\0\0AB"


def test_readings_of_an_answer():
    answer = answer_of(AB + b"\0\0\0\0", [0.5, 0.0], [0.5, 0.75, 0.0, 0.0] + [0.0] * 4)
    assert wire.readings(answer, 2) == [
        PlateReading("AB", 0.5, (0.5, 0.75)),
        PlateReading("", 0.0, ()),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        service_pb2.ModelInferResponse(),
        answer_of(AB, [0.5, 0.5], [0.5] * 4),
        answer_of(AB + AB, [0.5], [0.5] * 4),
        answer_of(AB[:-1], [0.5], [0.5] * 4),
        answer_of(b"\x02\0", [0.5], [0.5] * 4),
        answer_of(b"\x02\0\0\0\xff\xff", [0.5], [0.5] * 4),
        answer_of(AB, [0.5], []),
        answer_of(b"", [], []),
    ],
    ids=range(8),
)
def test_an_answer_that_holds_something_else_is_the_servers_fault(answer):
    with pytest.raises(ServerError, match="does not hold a plate a picture"):
        wire.readings(answer, 1)
