"""A tritonserver as a context manager: checked, started, proven, and ended without a trace."""

from __future__ import annotations

import subprocess
import time
from typing import Final

import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from lprnet.triton_model import HANG_LIMIT
from serving import preflight
from serving.addresses import listens, reachable, resolve_ports
from serving.drain import drain, hasten
from serving.errors import ProbeError, ServingError, StartError
from serving.find import Installation, find_server
from serving.guard import GRACE_S, KILL_NOW, KILL_TIMEOUT_S
from serving.launch import KEY_HEADER, Launched, begin_stop, launch, stop
from serving.options import ServerOptions
from serving.probe import Probe, ask, load_probe
from serving.profile import Profile, choose_profile, gpu_present
from serving.python_environment import read_packages, server_environment
from serving.server_log import ServerLog
from serving.service import Service
from serving.tls import ServerTls, read_tls

POLL_S: Final = 0.05
HANG_LIMIT_S: Final = 10.0
"""For one picture or one batch of crops, which take milliseconds."""


class TritonServer(Service):
    """One server.

    Use it as a context manager, or call `start` and `stop`.

    Args:
        options: what a user may choose.
        watched: somebody replaces models' processes that end, so that those which hang may.

    Attributes:
        options: with the ports that are really in use, once started.
        installation, profile: what runs; set by `start`.
        probe: the known plate and its answer.
        start_s: from the launch to the right answer to the probe.
        probe_s: time of that answer through both ensembles.

    Raises:
        ServingError: from `start` and from entering the context; nothing is left running then.
    """

    installation: Installation
    profile: Profile
    probe: Probe
    start_s: float
    probe_s: float

    def __init__(self, options: ServerOptions | None = None, *, watched: bool = False) -> None:
        self.options = ServerOptions() if options is None else options
        self._watched = watched
        self._launched: Launched | None = None
        self._log: ServerLog | None = None
        self._tls: ServerTls | None = None
        self._environment: dict[str, str] = {}
        self._gpu = False
        self._killed = False

    @property
    def grpc_url(self) -> str:
        """`HOST:PORT` for clients."""
        return f"{reachable(self.options.host)}:{self.options.grpc_port}"

    @property
    def http_url(self) -> str:
        """`http://HOST:PORT`."""
        return f"http://{reachable(self.options.http_host)}:{self.options.http_port}"

    @property
    def metrics_url(self) -> str:
        """Address of Triton's Prometheus metrics."""
        host = reachable(self.options.metrics_host)
        return f"http://{host}:{self.options.metrics_port}/metrics"

    @property
    def engine(self) -> str:
        """What computes: runtime, threads, file."""
        described = self._log.engine() if self._log is not None else None
        return described if described is not None else self.profile.name

    @property
    def launched(self) -> Launched:
        """Processes and key of the running server."""
        if self._launched is None:
            raise ServingError("the server is not running")
        return self._launched

    @property
    def running(self) -> bool:
        """Whether tritonserver lives (not whether it answers, see `serving.probe`)."""
        return self._launched is not None and self._launched.process.poll() is None

    def start(self) -> None:
        """Check, launch, wait for readiness and for the right answer to the probe."""
        options = self.options
        preflight.check_repository(options.repository)
        self.installation = find_server(options.tritonserver)
        self._environment = server_environment(self.installation)
        if self._watched:
            self._environment[HANG_LIMIT] = f"{HANG_LIMIT_S:g}"
        if self.installation.stub is not None:
            preflight.check_stub(self.installation.stub, self._environment)
        packages = read_packages(self._environment)
        preflight.check_packages(self.installation, packages)
        preflight.check_shared_memory()
        self._gpu = gpu_present()
        self.profile = choose_profile(
            self.installation, packages, options.repository, options.profile, gpu=self._gpu
        )
        self.probe = load_probe(options.repository)
        self._tls = read_tls(options)
        self.options = resolve_ports(options)
        self._run()

    def restart(self) -> None:
        """End what is left of a server that `start` made and run another on the same ports.

        What `start` checked of the machine is not checked again: every second counts.
        """
        self.kill()
        self._run()

    def _run(self) -> None:
        begin = time.monotonic()
        self._killed = False
        self._launched = launch(
            self.installation,
            self.profile,
            self.options,
            self._environment,
            gpu=self._gpu,
            tls=self._tls,
        )
        assert self._launched.process.stderr is not None
        self._log = ServerLog(self._launched.process.stderr, self.options.log_level, gpu=self._gpu)
        try:
            deadline = begin + self.options.ready_timeout_s
            self._wait_until_ready(deadline)
            with self.connect() as client:
                left_s = max(1.0, deadline - time.monotonic())
                self.probe_s = ask(client, self.probe, left_s)
        except ProbeError as error:
            self.stop()
            raise StartError(f"the server started but is not fit to serve: {error}") from error
        except BaseException:
            self.stop()
            raise
        self.start_s = time.monotonic() - begin

    def connect(self) -> grpcclient.InferenceServerClient:
        """A client of this server, with its certificates; the caller closes it.

        Raises:
            ServingError: when the server is not running.
        """
        if self._launched is None:
            raise ServingError("the server is not running")
        if self._tls is None:
            return grpcclient.InferenceServerClient(self.grpc_url)
        return grpcclient.InferenceServerClient(
            self.grpc_url, creds=self._tls.credentials(), channel_args=self._tls.channel_args()
        )

    @property
    def key_headers(self) -> dict[str, str]:
        """gRPC metadata that opens the protected protocols."""
        return {f"triton-grpc-protocol-{KEY_HEADER}": self.launched.key}

    def abort(self) -> None:
        """Make a `start` or `restart` that runs on another thread fail at once."""
        self._killed = True
        launched = self._launched
        if launched is not None:
            launched.process.send_signal(KILL_NOW)

    def kill(self) -> None:
        """End the server at once, running requests and all; nothing is left."""
        self.abort()
        self.stop()

    def stop(self) -> None:
        """End the server: SIGTERM, then SIGKILL; no process, port or shared memory is left."""
        launched, self._launched = self._launched, None
        if launched is None:
            return
        timeout_s = self.options.exit_timeout_s
        drain(launched, self.metrics_url, timeout_s, lambda: self._killed)
        begin_stop(launched)
        hasten(launched, self._log, timeout_s)
        stop(launched, timeout_s + GRACE_S + KILL_TIMEOUT_S)
        if self._log is not None:
            self._log.close()

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the server to end by itself: its exit code, or None when it still runs."""
        try:
            return self.launched.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def _wait_until_ready(self, deadline: float) -> None:
        address = (reachable(self.options.host), self.options.grpc_port)
        while time.monotonic() < deadline:
            if not self.running:
                raise StartError(self._why_ended())
            # A channel that is opened too early waits a second before it tries again.
            if listens(address) and self._says_ready():
                return
            time.sleep(POLL_S)
        raise StartError(
            f"tritonserver was not ready after {self.options.ready_timeout_s:g} s; the end of its "
            f"log: {self._log_end()}"
        )

    def _says_ready(self) -> bool:
        try:
            with self.connect() as client:
                return bool(client.is_server_ready(client_timeout=1))
        except InferenceServerException:
            return False

    def _why_ended(self) -> str:
        assert self._log is not None
        self._log.close()
        failure = self._log.load_failure()
        if failure is not None:
            return f"tritonserver could not load the model {failure}"
        return f"tritonserver ended while starting; the end of its log: {self._log_end()}"

    def _log_end(self) -> str:
        assert self._log is not None
        return " | ".join(line for line in self._log.tail(5) if line)
