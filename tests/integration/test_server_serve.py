"""`lprnet serve` as a program: how it ends, and what it makes of its server's end."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from conftest import READY_TIMEOUT_S
from left_behind import processes_with, wait_until
from serve_program import Serve, status_of

pytestmark = pytest.mark.integration


@pytest.mark.usefixtures("no_trace")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_serve_ends_cleanly_when_told(repository: Path, number: signal.Signals) -> None:
    serve = Serve(repository)
    serve.wait_until_up()
    shown = "".join(serve.lines)
    for expected in ("profile  cpu", "engine   ", "gRPC     127.0.0.1:", "read right"):
        assert expected in shown
    code, errors = serve.end(number)
    assert code == 0, errors
    assert "Traceback" not in errors
    assert not processes_with(str(repository))


@pytest.mark.usefixtures("no_trace")
def test_nohup_serves_on(repository: Path) -> None:
    """Seen to fail: the terminal's end ended a server that was started with nohup."""
    serve = Serve(repository, nohup=True)
    serve.wait_until_up()
    (url,) = [line.split()[1] for line in serve.lines if line.startswith("health ")]
    serve.process.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert status_of(url) == 200
    code, errors = serve.end(signal.SIGTERM)
    assert code == 0, errors


@pytest.mark.usefixtures("no_trace")
def test_modules_where_the_user_stands_are_not_the_models(repository: Path, tmp_path: Path) -> None:
    """Seen to fail without a working folder of the server's own: the stubs import them first."""
    for name in ("json", "numpy", "cv2", "lprnet", "queue"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name} of the user')\n")
    serve = Serve(repository, folder=tmp_path)
    serve.wait_until_up()
    code, errors = serve.end(signal.SIGTERM)
    assert code == 0, errors


@pytest.mark.usefixtures("no_trace")
def test_serve_that_is_killed_takes_its_server_along(repository: Path) -> None:
    serve = Serve(repository)
    serve.wait_until_up()
    code, _ = serve.end(signal.SIGKILL)
    assert code == -signal.SIGKILL  # no_trace: the guard has ended the rest


@pytest.mark.usefixtures("no_trace")
def test_ctrl_c_while_it_starts(repository: Path) -> None:
    serve = Serve(repository)
    assert wait_until(
        lambda: any("--model-repository" in a for a in processes_with(str(repository)).values()),
        READY_TIMEOUT_S,
    )
    code, errors = serve.end(signal.SIGINT)
    assert code == 0, errors
    assert "Traceback" not in errors


@pytest.mark.usefixtures("no_trace")
def test_serve_without_watchdog_says_so_when_the_server_dies(repository: Path) -> None:
    serve = Serve(repository, "--no-watchdog")
    serve.wait_until_up()
    for pid, arguments in processes_with(str(repository)).items():
        if "/bin/tritonserver " in arguments and "guard.py" not in arguments:
            os.kill(pid, signal.SIGKILL)
    code = serve.process.wait(60)
    assert code == 2
    assert serve.process.stderr is not None
    assert "error: tritonserver ended by itself" in serve.process.stderr.read()
    serve._thread.join()


@pytest.mark.usefixtures("no_trace")
def test_serve_starts_a_server_that_died_again(repository: Path) -> None:
    """Seen to fail with a watchdog whose `_step` does nothing: it is never ready again."""
    serve = Serve(repository)
    serve.wait_until_up()
    ready = next(line.split()[1] for line in serve.lines if line.startswith("health"))
    for pid, arguments in processes_with(str(repository)).items():
        if "/bin/tritonserver " in arguments:
            os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: status_of(ready) == 503)
    assert wait_until(lambda: status_of(ready) == 200, READY_TIMEOUT_S)
    code, errors = serve.end(signal.SIGTERM)
    assert code == 0, errors
    events = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    assert [event["event"] for event in events] == [
        "started",
        "server_died",
        "recovered",
        "stopped",
    ]
