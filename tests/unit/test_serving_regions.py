"""Left-over shared memory of clients: what is freed, and above all what is not."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tritonclient.utils import InferenceServerException

from lprnet.contract import CLIENT_REGION_PREFIX
from serving import watchdog_regions
from serving.errors import ServingError
from serving.server import TritonServer
from serving.watchdog_journal import Journal
from serving.watchdog_regions import RegionSweeper, remove_unused_files

NOBODY = 2**22 + 1  # above every limit of process ids
KEY = {"key": "k"}


def name_of(pid: int, number: int = 0) -> str:
    return f"{CLIENT_REGION_PREFIX}{pid}_{number:08x}"


class FakeServer:
    """Also its own client.

    Attributes:
        keys: region -> its key.
        down: what every call fails with.
        in_use: regions that it does not let go of.
        asked: for the status, so many times.
        timeouts_s: of all calls.
    """

    key_headers = KEY

    def __init__(self, *names: str) -> None:
        self.keys = {name: f"/{name}" for name in names}
        self.down: Exception | None = None
        self.in_use: set[str] = set()
        self.asked = 0
        self.timeouts_s: list[float] = []

    def connect(self) -> FakeServer:
        if isinstance(self.down, ServingError):
            raise self.down
        return self

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get_system_shared_memory_status(self, headers: Any, client_timeout: float) -> Any:
        assert headers == KEY
        self.asked += 1
        self.timeouts_s.append(client_timeout)
        if self.down is not None:
            raise self.down
        return SimpleNamespace(
            regions={name: SimpleNamespace(key=key) for name, key in self.keys.items()}
        )

    def unregister_system_shared_memory(
        self, name: str, headers: Any, client_timeout: float
    ) -> None:
        assert name  # without one Triton unregisters all
        assert headers == KEY
        self.timeouts_s.append(client_timeout)
        if name in self.in_use:
            raise InferenceServerException(f"Cannot unregister '{name}', it is in use.")
        del self.keys[name]


def sweeper_of(server: FakeServer, interval_s: float = 30.0) -> RegionSweeper:
    return RegionSweeper(cast(TritonServer, server), Journal(), interval_s)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stands for /dev/shm, and is of its kind."""
    folder = Path(tempfile.mkdtemp(prefix="test-regions-", dir="/dev/shm"))
    monkeypatch.setattr(watchdog_regions, "SHARED_MEMORY", folder)
    yield folder
    shutil.rmtree(folder)


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.usefixtures("memory")
def test_a_region_without_a_file_is_unregistered(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever runs under that number now."""
    server = FakeServer(name_of(NOBODY), name_of(os.getpid()))
    sweeper_of(server).look()
    assert server.keys == {}
    (event,) = events(capsys)
    assert (event["event"], event["regions"], event["files"]) == ("regions_removed", 2, 0)
    assert max(server.timeouts_s) <= 1.0


@pytest.mark.usefixtures("memory")
def test_what_is_not_our_clients_stays(capsys: pytest.CaptureFixture[str]) -> None:
    """Seen to fail without the comparison of the key, and with `match` for `fullmatch`."""
    server = FakeServer("other", f"x{name_of(NOBODY)}", f"{name_of(NOBODY)}/../x")
    server.keys[name_of(NOBODY)] = "/somebody's"
    before = dict(server.keys)
    sweeper_of(server).look()
    assert server.keys == before
    assert events(capsys) == []


def test_a_living_clients_region_stays(memory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also between its creation and its first request, when nobody has registered it."""
    server = FakeServer(name_of(os.getpid(), 1))
    sweeper = sweeper_of(server)
    with ExitStack() as used:
        for number in (1, 2):
            file = used.enter_context((memory / name_of(os.getpid(), number)).open("w+b"))
            file.truncate(4096)
            used.enter_context(mmap.mmap(file.fileno(), 4096))
        for _ in range(3):
            sweeper.look()
    assert list(server.keys) == [name_of(os.getpid(), 1)]
    assert len(list(memory.iterdir())) == 2
    assert events(capsys) == []


@pytest.mark.parametrize("pid", [NOBODY, os.getpid()], ids=["no process", "another process"])
def test_a_region_whose_process_is_gone_goes_with_its_file(
    memory: Path, capsys: pytest.CaptureFixture[str], pid: int
) -> None:
    """Of a client that was killed together with Python's resource tracker.

    The other seen to fail when any process of that number counted.
    """
    server = FakeServer(name_of(pid))
    (memory / name_of(pid)).touch()
    sweeper_of(server).look()
    assert server.keys == {}
    assert list(memory.iterdir()) == []
    (event,) = events(capsys)
    assert (event["regions"], event["files"]) == (1, 1)


def test_a_client_in_another_container_is_disturbed_once(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is not to be seen, its file is open. Seen to fail without `_doubted`."""
    name = name_of(NOBODY)
    now = [1000.0]
    monkeypatch.setattr(watchdog_regions.time, "monotonic", lambda: now[0])
    server = FakeServer(name)
    sweeper = sweeper_of(server)
    with (memory / name).open("wb"):
        sweeper.look()
        assert server.keys == {}
        sweeper.look()  # it sends nothing for a while
        server.keys[name] = f"/{name}"  # it has sent a request again
        sweeper.look()
        assert name in server.keys
        assert (memory / name).exists()
        now[0] += watchdog_regions.DOUBT_S + 1
    sweeper.look()  # now it is dead
    assert server.keys == {}
    assert list(memory.iterdir()) == []


def test_a_region_in_use_is_tried_again(memory: Path) -> None:
    """The server still computes the dead client's request."""
    gone, left = name_of(NOBODY, 1), name_of(NOBODY, 2)
    server = FakeServer(gone, left)
    (memory / left).touch()
    server.in_use = {gone, left}
    sweeper = sweeper_of(server)
    with (memory / left).open("wb"):  # as the server has it
        sweeper.look()
    assert set(server.keys) == {gone, left}
    server.in_use = set()
    sweeper.look()
    assert server.keys == {}


@pytest.mark.parametrize(
    "error",
    [
        InferenceServerException("unimplemented", "StatusCode.UNIMPLEMENTED"),
        InferenceServerException("Deadline Exceeded", "StatusCode.DEADLINE_EXCEEDED"),
        ServingError("the server is not running"),
        OSError("no /dev/shm"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("memory")
def test_a_server_that_cannot_be_asked_costs_one_line(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    server = FakeServer(name_of(NOBODY))
    server.down = error
    sweeper = sweeper_of(server)
    for _ in range(3):
        sweeper.look()
    (event,) = events(capsys)
    assert event["event"] == "regions_not_freed"
    server.down = None
    sweeper.look()
    assert server.keys == {}


def test_files_that_are_open_or_no_files_stay(memory: Path) -> None:
    """Seen to fail without the lease, to hang without O_NONBLOCK, to remove what a link names."""
    opened, mapped, plain = (memory / name_of(NOBODY, number) for number in range(3))
    kept = memory / "kept"
    kept.touch()
    (memory / name_of(NOBODY, 3)).symlink_to(kept)
    os.mkfifo(memory / name_of(NOBODY, 4))
    plain.touch()
    mapped.write_bytes(bytes(4096))
    program = (
        "import mmap, sys, time\n"
        "with open(sys.argv[1], 'r+b') as file:\n"
        "    memory = mmap.mmap(file.fileno(), 4096)\n"
        "print('mapped', flush=True)\n"
        "time.sleep(600)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(mapped)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    with other, opened.open("wb"):
        try:
            assert other.stdout.readline() == "mapped\n"
            assert remove_unused_files() == 1
            assert not plain.exists()
        finally:
            other.kill()
    assert remove_unused_files() == 2
    left = {path.name for path in memory.iterdir()}
    assert left == {"kept", name_of(NOBODY, 3), name_of(NOBODY, 4)}


def test_who_opens_a_leased_file_does_not_end_the_watchdog(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail, with `I/O possible` as this process's end, without F_SETSIG."""
    path = memory / name_of(NOBODY)
    path.touch()
    unlink = Path.unlink
    openers = []

    def opened_meanwhile(self: Path, missing_ok: bool = False) -> None:
        program = "import sys; open(sys.argv[1], 'r+b')"
        openers.append(subprocess.Popen([sys.executable, "-c", program, str(self)]))
        lease = f":{self.stat().st_ino} "
        deadline = time.monotonic() + 20
        while not any(
            "BREAKING" in line and lease in line
            for line in Path("/proc/locks").read_text().splitlines()
        ):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", opened_meanwhile)
    assert signal.getsignal(signal.SIGIO) == signal.SIG_DFL
    assert remove_unused_files() == 1
    assert openers[0].wait(20) == 0  # it need not wait for the kernel's 45 s


@pytest.mark.usefixtures("memory")
def test_it_looks_now_and_then_until_it_is_closed() -> None:
    server = FakeServer()
    sweeper = sweeper_of(server, interval_s=0.01)
    sweeper.start()
    deadline = time.monotonic() + 20
    while server.asked < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    sweeper.close()
    asked = server.asked
    time.sleep(0.05)
    assert server.asked == asked
