"""The processes of Triton's Python models, found, told apart, missed and ended: real processes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from serving import watchdog_case
from serving.errors import ServingError
from serving.find import STUB
from serving.options import WatchdogOptions
from serving.server import TritonServer
from serving.watchdog_case import RETIREMENT_S, Case
from serving.watchdog_journal import Journal
from serving.watchdog_status import Status
from serving.watchdog_stubs import Stub, by_age, find_stubs, is_running


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
