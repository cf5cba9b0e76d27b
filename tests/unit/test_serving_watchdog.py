"""The watchdog's parts without a server: what it says, counts and finds."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from serving import watchdog_status
from serving.find import Installation
from serving.launch import server_command
from serving.options import ROOT, ServerOptions
from serving.profile import Profile
from serving.watchdog_http import HealthEndpoint, json_answer
from serving.watchdog_journal import Journal
from serving.watchdog_status import State, Status


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """`clock[0]` is the time."""
    now = [1000.0]
    monkeypatch.setattr(watchdog_status.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.usefixtures("clock")
def test_only_a_right_answer_makes_it_ready() -> None:
    status = Status(1, 2)
    assert not status.ready()
    status.refused()
    assert not status.ready()
    status.right_answer()
    assert status.ready()
    status.bad_answer("reads 'X'")
    assert not status.ready()
    assert status.describe()["error"] == "reads 'X'"
    status.refused()  # a full queue does not take a wrong answer back
    assert not status.ready()
    status.right_answer()
    assert status.ready()
    status.enter(State.RECOVERING)
    assert not status.ready()
    status.recovered()
    assert status.describe() == {
        "ready": True,
        "state": "ready",
        "right_answer_age_s": 0.0,
        "recoveries": 1,
        "error": None,
    }


def test_an_old_answer_is_none(clock: list[float]) -> None:
    status = Status(1, 2)
    status.right_answer()
    clock[0] += 5.9
    assert status.ready()
    clock[0] += 0.2
    assert not status.ready()


def test_an_overloaded_server_stays_in_service(clock: list[float]) -> None:
    status = Status(1, 2)
    status.right_answer()
    for _ in range(10):
        clock[0] += 4
        status.refused()
    assert status.ready()
    assert status.describe()["state"] == "overloaded"


def test_what_ends_stays_ended() -> None:
    status = Status(1, 2)
    status.enter(State.STOPPING)
    status.right_answer()
    status.enter(State.RECOVERING)
    assert status.describe()["state"] == "stopping"
    assert not status.ready()


def test_alive_until_waiting_is_in_vain(clock: list[float]) -> None:
    status = Status(1, 2)
    status.right_answer()
    status.enter(State.RECOVERING)
    for _ in range(11):
        clock[0] += 10
        status.beat()
        assert status.alive()
    clock[0] += 20
    status.beat()
    assert not status.alive()  # lost for two minutes


def test_a_watchdog_that_hangs_is_not_alive(clock: list[float]) -> None:
    status = Status(1, 2)
    status.right_answer()
    clock[0] += 100
    status.right_answer()  # the probes go on, the watching thread does not
    assert not status.alive()


def test_the_endpoint_answers_with_codes() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    good = threading.Event()
    endpoint = HealthEndpoint(
        "127.0.0.1", port, {"/readyz": lambda: json_answer(good.is_set(), {"a": 1})}
    )
    try:
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{url}/readyz", timeout=10)
        assert caught.value.code == 503
        good.set()
        with urllib.request.urlopen(f"{url}/readyz?verbose", timeout=10) as answer:
            assert json.loads(answer.read()) == {"a": 1}
            assert "Python" not in answer.headers["Server"]
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{url}/etc/passwd", timeout=10)
        assert caught.value.code == 404
        head = urllib.request.Request(f"{url}/readyz", method="HEAD")
        with urllib.request.urlopen(head, timeout=10) as answer:
            assert answer.read() == b""
    finally:
        endpoint.close()


def test_an_event_is_one_line_and_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal()
    journal.write("stub_died", model="lprnet", error='two\nlines "quoted"')
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    event = json.loads(lines[0])
    assert (event["event"], event["model"]) == ("stub_died", "lprnet")
    assert 'lprnet_watchdog_events_total{event="stub_died"} 1.0' in journal.exposition().decode()


def test_tracing_and_the_loopback_of_http(tmp_path: Path) -> None:
    installation = Installation(tmp_path, tmp_path, tmp_path, None, "wheel")

    def command(**options: object) -> list[str]:
        return server_command(
            installation,
            Profile("cpu"),
            ServerOptions(host="0.0.0.0", **options),  # type: ignore[arg-type]
            backends=tmp_path,
            shm_prefix="x-",
            key="k",
            gpu=False,
        )

    assert "--http-address=127.0.0.1" in command()
    assert "--http-address=0.0.0.0" in command(http_host="0.0.0.0")
    assert not any(argument.startswith("--trace") for argument in command())
    closed = command(tls_cert=tmp_path, trace_url="http://c:4318/v1/traces", trace_rate=7)
    assert "--http-address=127.0.0.1" in closed
    assert "--grpc-address=0.0.0.0" in closed
    assert "--trace-config=opentelemetry,url=http://c:4318/v1/traces" in closed
    assert "--trace-config=rate=7" in closed


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted((ROOT / "model_repository").glob("*/**/*.pbtxt"))
        if 'platform: "ensemble"' not in path.read_text() and path.parts[-2] != "ctc_decoder"
    ],
    ids=lambda path: str(path.relative_to(ROOT / "model_repository")),
)
def test_the_queues_that_clients_fill_have_an_end(path: Path) -> None:
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    policy = config.dynamic_batching.default_queue_policy
    assert 0 < policy.max_queue_size <= 512
    assert 0 < policy.default_timeout_microseconds <= 2_000_000
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
