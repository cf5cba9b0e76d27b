"""/healthz, /readyz and /metrics of the watchdog, for load balancers, Kubernetes, Prometheus."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

READ_TIMEOUT_S: Final = 5.0
"""A connection that sends nothing must not hold a thread for ever."""

Answer = tuple[int, str, bytes]
"""HTTP status, content type, body."""


def json_answer(good: bool, body: dict[str, Any]) -> Answer:
    """200 or 503 with a JSON object."""
    return (200 if good else 503), "application/json", json.dumps(body).encode() + b"\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    # Named so that a client's reset does not print a traceback.
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A broken connection concerns its client only."""


class HealthEndpoint:
    """A small HTTP server on a thread.

    Args:
        host, port: where it listens.
        routes: path -> function that makes the answer to GET.
    """

    def __init__(self, host: str, port: int, routes: dict[str, Callable[[], Answer]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = READ_TIMEOUT_S
            server_version = "lprnet"
            sys_version = ""

            def do_GET(self) -> None:
                route = routes.get(self.path.partition("?")[0])
                status, kind, body = (
                    (404, "text/plain", b"not found\n") if route is None else route()
                )
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                """Probes come every second: not logged."""

        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server_class = type("_FamilyServer", (_Server,), {"address_family": family})
        self._server: ThreadingHTTPServer = server_class((host, port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="health-endpoint", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
