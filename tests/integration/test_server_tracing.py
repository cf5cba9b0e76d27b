"""OpenTelemetry traces of a real server."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import options_for
from left_behind import wait_until

from lprnet import contract
from serving import TritonServer

pytestmark = pytest.mark.integration


@pytest.mark.usefixtures("no_trace")
def test_traces_reach_a_collector(repository: Path) -> None:
    """Seen to fail without --trace-config on tritonserver's command line: nothing arrives."""
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not of interest."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{collector.server_port}/v1/traces"
        try:
            # The probe of the start is traced; the batch is sent at the end at the latest.
            with TritonServer(options_for(repository, trace_url=url, trace_rate=1)):
                wait_until(lambda: bool(bodies), 15)
        finally:
            collector.shutdown()
            thread.join()
    assert any(contract.CROP_ENSEMBLE.encode() in body for body in bodies)
