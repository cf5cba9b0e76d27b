"""/dev/shm without room, in a mount namespace of its own so that nobody else feels it.

Run as a program inside `unshare -m`; prints one JSON object. It guards an outcome: Triton refuses
what it has no room for, and the watchdog must not make more of it. Seen to fail with pictures that
need no more room than a model has from the start: then nothing is refused.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SIZE_MIB = 64


def run_apart() -> tuple[bool, dict[str, Any]] | None:
    """The scenario in a process of its own; None where no namespace can be made (not root)."""
    mount = f"mount -t tmpfs -o size={SIZE_MIB}m tmpfs /dev/shm"
    try_it = ["unshare", "-m", "sh", "-c", mount]
    if subprocess.run(try_it, capture_output=True, check=False).returncode != 0:
        return None
    program = f'{mount} && exec "$0" -m tests.chaos.full_shm'
    ran = subprocess.run(
        ["unshare", "-m", "sh", "-c", program, sys.executable],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if ran.returncode != 0:
        return False, {"error": ran.stderr[-2000:]}
    figures = json.loads(ran.stdout.splitlines()[-1])
    return figures.pop("good"), figures


def scenario() -> dict[str, Any]:
    """Fill it, send what needs more of it, free it: afterwards all is right again."""
    import cv2
    from onnx_samples import paint

    from clients import ClientError, ClientOptions, PlateClient, RetryPolicy
    from serving.watchdog import Watchdog

    from .__main__ import server_options
    from .load import Load

    answers = {"right": 0, "wrong": 0, "refused": 0}
    with (
        tempfile.TemporaryDirectory() as folder,
        Watchdog(server_options(Path(folder))) as dog,
    ):
        # A megabyte and a half of uncompressed pixels: a model's segment begins with one.
        rows = cv2.cvtColor(paint("BIG1").transpose(1, 2, 0), cv2.COLOR_RGB2BGR)
        large = cv2.resize(rows, None, fx=10, fy=10, interpolation=cv2.INTER_NEAREST)
        picture = bytes(cv2.imencode(".bmp", large)[1])
        options = ClientOptions(timeout_s=5, retry=RetryPolicy(budget=0))
        filler = Path("/dev/shm/filler")
        with filler.open("wb") as file:
            while True:
                try:
                    file.write(b"x" * 65536)
                    file.flush()
                except OSError:
                    break
        end = time.monotonic() + 5
        with PlateClient(dog.server.grpc_url, options) as client:
            while time.monotonic() < end:
                try:
                    plate = client.read_image(picture).plate
                    answers["right" if plate == "BIG1" else "wrong"] += 1
                except ClientError:
                    answers["refused"] += 1
                    time.sleep(0.05)
        filler.unlink(missing_ok=True)
        deadline = time.monotonic() + 90
        time.sleep(2.5)
        while not dog.status.ready() and time.monotonic() < deadline:
            time.sleep(0.05)
        with Load(dog.server.grpc_url) as load, PlateClient(dog.server.grpc_url) as client:
            after = client.read_image(picture).plate
            time.sleep(3)
        answered = not load.lost and not load.wrong and load.right > 0
        return {
            # Nothing refused would mean that nobody felt the want.
            "good": answers["refused"] > 0
            and not answers["wrong"]
            and answered
            and after == "BIG1",
            "while_full": answers,
            "after": after,
            "recoveries": dog.status.describe()["recoveries"],
            **load.figures(),
        }


if __name__ == "__main__":
    print(json.dumps(scenario()))
