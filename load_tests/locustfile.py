"""locust entry: `locust -f load_tests/locustfile.py --host 127.0.0.1:8001` opens the web page.

Examples:
  locust -f load_tests/locustfile.py --host 127.0.0.1:8001 --shape ramp --peak-users 64
  locust -f load_tests/locustfile.py --host 127.0.0.1:8001 --headless --shape spike \\
      --duration-s 60 --html out/locust/spike.html --csv out/locust/spike
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

# locust loads this file by path; the packages beside it are found from the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from load_tests.locust_user import PlateUser  # first: it prepares gRPC for gevent # isort: skip

from locust import LoadTestShape, events

from load_tests.shapes import SHAPES, users_at

__all__ = ["PlateShape", "PlateUser"]


def _add_arguments(parser: Any, **_: Any) -> None:
    add = parser.add_argument
    add("--shape", choices=SHAPES, default="steady", help="users over time")
    add("--peak-users", type=int, default=32, help="most users at a time")
    add("--duration-s", type=float, default=60.0, help="length of the run in seconds")
    add("--deadline-s", type=float, default=5.0, help="a request that takes longer has failed")


events.init_command_line_parser.add_listener(_add_arguments)  # type: ignore[no-untyped-call]


class PlateShape(LoadTestShape):
    """Follows --shape."""

    def tick(self) -> tuple[int, float] | None:
        """Users wanted now and how fast to come there; None ends the run."""
        assert self.runner is not None
        options: Any = self.runner.environment.parsed_options
        peak: int = options.peak_users
        elapsed_s: float = self.get_run_time()  # type: ignore[no-untyped-call]
        users = users_at(options.shape, elapsed_s, options.duration_s, peak)
        return None if users is None else (users, float(peak))
