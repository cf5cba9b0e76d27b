"""`lprnet serve` as a user starts it. For tests."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import READY_TIMEOUT_S

ROOT = Path(__file__).resolve().parents[2]


class Serve:
    """`lprnet serve` as a user starts it, in `folder` where one is given.

    `nohup` ignores SIGHUP; else it has its default, whatever the tests were started with.
    """

    def __init__(
        self, repository: Path, *more: str, folder: Path | None = None, nohup: bool = False
    ) -> None:
        command = ["env", f"--{'ignore' if nohup else 'default'}-signal=HUP"]
        command += [sys.executable, str(ROOT / "lprnet_cli.py"), "serve", "--profile=cpu"]
        command += [f"--repository={repository}", f"--ready-timeout={READY_TIMEOUT_S:.0f}"]
        command += ["--grpc-port=0", "--http-port=0", "--metrics-port=0", "--health-port=0", *more]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
        )
        self.lines: list[str] = []
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith("Ctrl-C"):
                self._up.set()
        self._up.set()  # it has ended: nobody need wait on

    def wait_until_up(self) -> None:
        assert self._up.wait(READY_TIMEOUT_S)
        if not any(line.startswith("Ctrl-C") for line in self.lines):
            assert self.process.stderr is not None
            pytest.fail(f"`lprnet serve` did not come up: {self.process.stderr.read()}")

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Exit code and standard error."""
        self.process.send_signal(number)
        code = self.process.wait(60)
        assert self.process.stderr is not None
        self._thread.join()
        return code, self.process.stderr.read()


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
