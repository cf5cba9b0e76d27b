"""The watchdog's parts without a server: what it says, counts and finds."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from serving import watchdog_case, watchdog_status
from serving.errors import ServingError
from serving.find import STUB, Installation
from serving.launch import server_command
from serving.options import ROOT, ServerOptions, WatchdogOptions
from serving.profile import Profile
from serving.server import TritonServer
from serving.watchdog_case import RETIREMENT_S, Case
from serving.watchdog_http import HealthEndpoint, json_answer
from serving.watchdog_journal import Journal
from serving.watchdog_status import State, Status
from serving.watchdog_stubs import Stub, by_age, find_stubs, is_running


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


@pytest.fixture
def parent_of_stubs(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Starts a process with children that look like stubs, (model, segment) each; its pid."""
    program = tmp_path / STUB
    program.symlink_to(shutil.which("bash") or "/bin/bash")  # keeps the name
    parent = (
        "import subprocess, sys\n"
        "for script, segment in zip(sys.argv[2::2], sys.argv[3::2]):\n"
        "    subprocess.Popen([sys.argv[1], script, segment], stdin=subprocess.PIPE)\n"
        "print('up', flush=True)\nsys.stdin.read()\n"
    )
    started = []

    def start(*children: tuple[str, str]) -> int:
        arguments = []
        for model, segment in children:
            script = tmp_path / model / "1" / "model.py"
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_text("read -r line\n")
            arguments += [str(script), segment]
        server = subprocess.Popen(
            [sys.executable, "-c", parent, str(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        return server.pid

    yield start
    for server in started:
        server.communicate(timeout=20)  # closes its input, which ends it and its children


def wait_for_stubs(pid: int, prefix: str, count: int) -> list[Stub]:
    """Between fork and exec a child is no stub yet; one that was killed is one for a moment."""
    deadline = time.monotonic() + 20
    while len(found := find_stubs(pid, prefix)) != count:
        assert time.monotonic() < deadline, found
        for stub in found:
            stub.close()
    return sorted(found, key=lambda stub: stub.pid)


def test_stubs_are_found_by_parent_program_and_prefix(
    parent_of_stubs: Callable[..., int],
) -> None:
    pid = parent_of_stubs(("engine", "ours-1"), ("engine", "theirs-1"))
    (stub,) = wait_for_stubs(pid, "ours-", 1)
    assert (stub.model, stub.segment) == ("engine", "ours-1")
    assert is_running(stub.pid)
    assert not stub.held
    stub.kill()
    deadline = time.monotonic() + 20
    while is_running(stub.pid):
        assert time.monotonic() < deadline
    stub.kill()  # once more is no error
    assert find_stubs(pid, "ours-") == []
    stub.close()


class NoAnswer:
    """A server that is there and says nothing."""

    def __init__(self, pid: int) -> None:
        self.launched = SimpleNamespace(pid=pid, shm_prefix="ours-")

    def connect(self) -> object:
        raise ServingError("no answer")


def case_of(pid: int, **instances: int) -> Case:
    server = cast(TritonServer, NoAnswer(pid))
    return Case(server, WatchdogOptions(), Journal(), Status(1.0, 1.0), instances)


def close_all(stubs: list[Stub]) -> None:
    for stub in stubs:
        stub.close()


def test_the_younger_are_told_by_their_start_and_not_by_their_number() -> None:
    """Process ids begin anew at the kernel's limit."""
    old = Stub(pid=31000, pidfd=-1, model="engine", segment="a", started=100)
    new = [Stub(pid=pid, pidfd=-1, model="engine", segment="b", started=900) for pid in (412, 431)]
    newest, older = by_age([old, *new], {"engine": 2})
    assert {stub.pid for stub in newest} == {412, 431}
    assert older == [old]
    assert by_age([old, *new], {})[1] == []  # nobody knows how many there should be


def test_all_that_end_at_once_are_missed(parent_of_stubs: Callable[..., int]) -> None:
    """Seen to fail when only processes were asked for whose descriptor had fired."""
    pid = parent_of_stubs(("engine", "ours-1"), ("engine", "ours-2"), ("decoder", "ours-3"))
    close_all(wait_for_stubs(pid, "ours-", 3))
    case = case_of(pid, engine=2, decoder=1)
    assert case.look_for_stubs() == []
    assert case.missing([]) == set()
    for model in ("engine", "decoder"):
        next(stub for stub in case.stubs if stub.model == model).kill()
    close_all(wait_for_stubs(pid, "ours-", 1))
    gone = case.look_for_stubs()
    assert sorted(stub.model for stub in gone) == ["decoder", "engine"]
    assert case.missing(gone) == {"decoder", "engine"}
    case.forget_stubs()

    unknown = case_of(pid)  # the server has not told how many there are
    unknown.look_for_stubs()
    unknown.stubs[0].kill()
    close_all(wait_for_stubs(pid, "ours-", 0))
    assert unknown.missing(unknown.look_for_stubs()) == {"engine"}


def test_what_a_load_has_replaced_is_ended(
    parent_of_stubs: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton leaves a sibling of a dead process alive now and then."""
    pid = parent_of_stubs(("engine", "ours-1"), ("engine", "ours-2"), ("decoder", "ours-3"))
    close_all(wait_for_stubs(pid, "ours-", 3))
    case = case_of(pid, engine=2, decoder=1)
    case.look_for_stubs()
    next(stub for stub in case.stubs if stub.model == "engine").kill()
    case.retire({"engine"})
    assert [stub.model for stub in case.stubs] == ["decoder"]
    case.end_retired()
    left = wait_for_stubs(pid, "ours-", 2)  # the sibling has time to answer what it holds
    close_all(left)
    assert case.look_for_stubs() == []
    assert [stub.model for stub in case.stubs] == ["decoder"]  # it is followed no more

    now = time.monotonic()
    monkeypatch.setattr(watchdog_case.time, "monotonic", lambda: now + RETIREMENT_S + 1)
    case.end_retired()
    monkeypatch.undo()
    (decoder,) = wait_for_stubs(pid, "ours-", 1)
    assert decoder.model == "decoder"
    assert case.retired == []
    decoder.close()
    case.forget_stubs()


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

    assert "--http-address=0.0.0.0" in command()
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
        if 'platform: "ensemble"' not in path.read_text()
    ],
    ids=lambda path: str(path.relative_to(ROOT / "model_repository")),
)
def test_every_queue_has_an_end(path: Path) -> None:
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    policy = config.dynamic_batching.default_queue_policy
    assert 0 < policy.max_queue_size <= 512
    assert 0 < policy.default_timeout_microseconds <= 2_000_000
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
