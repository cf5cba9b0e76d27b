"""Runs the cases: one spell each, round after round, so that drift meets all of them alike."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil  # type: ignore[import-untyped]

from clients import AsyncPlateClient, ClientOptions, PlateClient
from load_tests import cases as names
from load_tests.bursts import MODELS, SIZES, Burst, send_bursts
from load_tests.cases import Case
from load_tests.drive import Ask, Timed, drive_tasks, drive_threads
from load_tests.figures import Spell, cpu_s, memory_bytes
from load_tests.in_process import Child, EngineReader
from load_tests.local_server import server_processes
from load_tests.peer import PeerReader, PeerServer
from load_tests.pictures import PictureSet
from load_tests.requests_raw import HttpAsk, grpc_asks, tensors, triton_bodies
from load_tests.stages import Counters, read_counters
from lprnet import contract
from serving import TritonServer


class Bench:
    """Everything that is measured, running; use it as a context manager.

    Args:
        server: a started server.
        pictures: what is read, in turns.
        peer_dir: folder of the peer's model, or None.

    Attributes:
        engine_parameters: of the engine's model config; None where it is no Python model, and
            then there is no bare engine to compare with.
    """

    def __init__(self, server: TritonServer, pictures: PictureSet, peer_dir: Path | None) -> None:
        self.server = server
        self.pictures = pictures
        self.files = pictures.files
        self.crops: npt.NDArray[np.uint8] = pictures.crops()
        self.stages: dict[Case, dict[str, Counters]] = {}
        self._stack = contextlib.ExitStack()
        self._peer_dir = peer_dir
        self._children: dict[str, Child] = {}
        self._peer_server: PeerServer | None = None
        self.engine_parameters = self._parameters()

    def _parameters(self) -> dict[str, str] | None:
        with self.server.connect() as client:
            config = client.get_model_config(contract.ENGINE_MODEL).config
        if config.backend != "python":
            return None
        return {key: value.string_value for key, value in config.parameters.items()}

    def __enter__(self) -> Bench:
        with contextlib.ExitStack() as stack:
            if self.engine_parameters is not None:
                folder = self.server.options.repository / contract.ENGINE_MODEL / "1"
                for target, alone in ((names.ENGINE, True), (names.SERVED_ENGINE, False)):
                    reader = EngineReader(folder, self.engine_parameters, self.crops, alone)
                    self._children[target] = stack.enter_context(Child(reader))
            if self._peer_dir is not None:
                peer = Child(PeerReader(self._peer_dir, self.files))
                self._children[names.PEER] = stack.enter_context(peer)
                self._peer_server = stack.enter_context(PeerServer(self._peer_dir))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *details: Any) -> None:
        self._stack.close()

    def texts(self, target: str) -> list[str]:
        """What `lpr_image` or the peer reads in each picture; empty for refused pictures."""
        if target in self._children:
            return self._children[target].read_all()
        with PlateClient(self.server.grpc_url) as client:
            outcomes = client.read_images(self.files)
        return [getattr(outcome, "plate", "") for outcome in outcomes]

    def bursts(self, rounds: int) -> list[Burst]:
        """Single pictures that come at once, in all models and sizes; none for 0 rounds."""
        url = self.server.grpc_url
        return [
            send_bursts(url, model, tensors(model, self.files, self.crops, 1), size, rounds)
            for model in MODELS
            for size in SIZES
            if rounds
        ]

    def spell(self, case: Case, seconds: float) -> Spell:
        """One spell of load."""
        if case.way == names.IN_PROCESS:
            return self._in_process(case, seconds)
        if case.target == names.PEER_SERVER:
            assert self._peer_server is not None
            processes = self._peer_server.processes
        else:
            processes = server_processes(self.server)
        client = psutil.Process(os.getpid())
        marks: list[tuple[float, float]] = []

        def mark() -> None:
            marks.append((cpu_s([client]), cpu_s(processes)))

        with self._watch_stages(case) as began:

            def start() -> None:
                began()
                mark()

            timed = self._drive(case, seconds, start)
        mark()
        return _spell(timed, marks[1][0] - marks[0][0], marks[1][1] - marks[0][1], processes)

    def _in_process(self, case: Case, seconds: float) -> Spell:
        child = self._children[case.target]
        timed, used_s = child.drive(case.batch, seconds)
        return _spell(timed, 0.0, used_s, [child.process])

    @contextlib.contextmanager
    def _watch_stages(self, case: Case) -> Any:
        before: dict[str, Counters] = {}
        with self.server.connect() as client:
            yield lambda: before.update(read_counters(client))
            after = read_counters(client)
        if case.target == names.PEER_SERVER:
            return
        sums = self.stages.setdefault(case, {})
        for model, counters in after.items():
            new = counters.minus(before[model])
            if new.requests:
                sums[model] = sums[model].plus(new) if model in sums else new

    def _drive(self, case: Case, seconds: float, on_start: Callable[[], None]) -> Timed:
        if case.way == names.BATCHING:
            return asyncio.run(self._drive_asyncio(case, seconds, on_start))
        with contextlib.ExitStack() as stack:
            return drive_threads(self._asks(case, stack), seconds, on_start)

    async def _drive_asyncio(
        self, case: Case, seconds: float, on_start: Callable[[], None]
    ) -> Timed:
        async with AsyncPlateClient(self.server.grpc_url) as client:

            async def image(index: int) -> int:
                await client.read_image(self.files[index % len(self.files)])
                return 1

            async def crop(index: int) -> int:
                await client.read_crop(self.crops[index % len(self.crops)])
                return 1

            ask = image if case.target == contract.IMAGE_ENSEMBLE else crop
            return await drive_tasks(ask, case.concurrency, seconds, on_start)

    def _asks(self, case: Case, stack: contextlib.ExitStack) -> list[Ask]:
        if case.target == names.PEER_SERVER:
            assert self._peer_server is not None
            bodies = [(data, {"Content-Type": "image/jpeg"}) for data in self.files]
            return self._http(self._peer_server.address, "/read", bodies, case, stack)
        if case.way in (names.LIBRARY, names.SHARED_MEMORY):
            options = ClientOptions(shared_memory=case.way == names.SHARED_MEMORY)
            client = stack.enter_context(PlateClient(self.server.grpc_url, options))
            return [self._library(client, case)] * case.concurrency
        inputs = tensors(case.target, self.files, self.crops, case.batch)
        if case.way == names.HTTP:
            path = f"/v2/models/{case.target}/infer"
            bodies = triton_bodies(case.target, inputs)
            address = self.server.http_url.removeprefix("http://")
            return self._http(address, path, bodies, case, stack)
        asks, channel = grpc_asks(self.server.grpc_url, case.target, inputs, case.concurrency)
        stack.callback(channel.close)
        return asks

    def _library(self, client: PlateClient, case: Case) -> Ask:
        size, count = case.batch, len(self.files)

        def images(index: int) -> int:
            if size == 1:
                client.read_image(self.files[index % count])
                return 1
            start = index * size % max(1, count - size + 1)
            return len(client.read_images(self.files[start : start + size]))

        def crops(index: int) -> int:
            start = index * size % max(1, count - size + 1)
            return len(client.read_crops(self.crops[start : start + size]))

        return images if case.target == contract.IMAGE_ENSEMBLE else crops

    @staticmethod
    def _http(
        address: str,
        path: str,
        bodies: list[tuple[bytes, dict[str, str]]],
        case: Case,
        stack: contextlib.ExitStack,
    ) -> list[Ask]:
        asks: list[Ask] = []
        for _ in range(case.concurrency):
            ask = HttpAsk(address, path, bodies, case.batch)
            stack.callback(ask.close)
            asks.append(ask)
        return asks


def _spell(
    timed: Timed, client_cpu_s: float, server_cpu_s: float, processes: list[psutil.Process]
) -> Spell:
    return Spell(
        timed.latencies_s,
        timed.plates,
        timed.wall_s,
        client_cpu_s,
        server_cpu_s,
        memory_bytes(processes),
    )
