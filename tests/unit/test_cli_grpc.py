"""What `lprnet bench` chooses for gRPC, which reads it once a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_triton import FakeTriton, serve

import lprnet_cli

ROOT = Path(__file__).resolve().parents[2]
CALLS = 200
PROGRAM = f"""
import sys
import numpy as np
from pathlib import Path
from clients import PlateClient

def woken():
    lines = [
        line
        for task in Path("/proc/self/task").iterdir()
        if (task / "comm").read_text().startswith("event_engine")
        for line in (task / "status").read_text().splitlines()
    ]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary"))

with PlateClient(sys.argv[1]) as client:
    crop = np.zeros((1, 3, 48, 96), np.uint8)
    for _ in range(20):
        client.read_crops(crop)
    before = woken()
    for _ in range({CALLS}):
        client.read_crops(crop)
    print((woken() - before) / {CALLS})
"""


def wakings_per_call(**choice: str) -> float:
    """How often a call wakes a thread of gRPC's event engine."""
    environment = {key: value for key, value in os.environ.items() if key != "GRPC_EXPERIMENTS"}
    environment |= choice
    with serve(FakeTriton()) as fake:
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, fake.url],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    assert ended.stderr == "", "gRPC no longer knows the experiment"
    return float(ended.stdout)


def test_answers_can_be_taken_in_the_calling_thread():
    """3 against 0.05 wakings a call."""
    assert wakings_per_call() > 1, "gRPC's default has changed: is the setting needed?"
    assert wakings_per_call(**lprnet_cli.CALLERS_POLL) < 0.5


def test_bench_chooses_it(monkeypatch):
    monkeypatch.setenv("GRPC_EXPERIMENTS", "")  # so that it is restored afterwards
    monkeypatch.delenv("GRPC_EXPERIMENTS")
    with pytest.raises(SystemExit, match="0"):
        lprnet_cli.main(["bench", "--help"])
    assert os.environ["GRPC_EXPERIMENTS"] == "-event_engine_client"


def test_the_users_choice_stands(monkeypatch):
    monkeypatch.setenv("GRPC_EXPERIMENTS", "event_engine_fork")
    with pytest.raises(SystemExit, match="0"):
        lprnet_cli.main(["bench", "--help"])
    assert os.environ["GRPC_EXPERIMENTS"] == "event_engine_fork"
