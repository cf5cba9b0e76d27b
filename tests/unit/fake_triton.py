"""A gRPC server in this process that answers like Triton's ensembles and fails when told to.

Its model configs are the repository's own files. It reads no plates: a picture's text is a digest
of its bytes, so that a test can tell which answer belongs to which picture.
"""

from __future__ import annotations

import hashlib
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import grpc
import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from lprnet import contract

REPOSITORY = Path(__file__).resolve().parents[2] / "model_repository"
Code = grpc.StatusCode


def picture(seed: int, width_px: int = 40) -> bytes:
    """A small JPEG file that no other seed gives."""
    noise = np.random.default_rng(seed).integers(0, 255, (16, width_px, 3), np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


def text_of(data: bytes) -> str:
    """The plate that the fake reads from these bytes."""
    return hashlib.sha256(data).hexdigest()[:7].upper()


@dataclass
class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Attributes:
    faults: (code, words) for the next requests, one each.
    refused: pictures that are answered INVALID_ARGUMENT.
    names_index: say which picture it was.
    delay_s: before each answer.
    fail_after: from this request on answer INTERNAL; None: never.
    requests: number of pictures of each request that came.
    regions: of shared memory that are registered.
    ids, priorities: of these requests; priority 0 is none.
    """

    faults: list[tuple[grpc.StatusCode, str]] = field(default_factory=list)
    refused: set[bytes] = field(default_factory=set)
    names_index: bool = True
    delay_s: float = 0.0
    fail_after: int | None = None
    requests: list[int] = field(default_factory=list)
    regions: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    priorities: list[int] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def ModelConfig(self, request, context):
        path = REPOSITORY / request.name / "configs" / "cpu.pbtxt"
        path = path if path.exists() else REPOSITORY / request.name / "config.pbtxt"
        if not path.exists():
            context.abort(Code.NOT_FOUND, f"Request for unknown model: '{request.name}'")
        config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        return service_pb2.ModelConfigResponse(config=config)

    def ModelInfer(self, request, context):
        with self.lock:
            fault = self.faults.pop(0) if self.faults else None
            pictures = _pictures(request)
            self.requests.append(len(pictures))
            self.ids.append(request.id)
            self.priorities.append(request.parameters["priority"].uint64_param)
            self.metadata.append(dict(context.invocation_metadata()))
        time.sleep(self.delay_s)
        if self.fail_after is not None and len(self.requests) > self.fail_after:
            fault = (Code.INTERNAL, "told to fail")
        if fault is not None:
            context.abort(*fault)
        for index, data in enumerate(pictures):
            if data in self.refused:
                where = f"picture {index}: " if self.names_index and len(pictures) > 1 else ""
                context.abort(
                    Code.INVALID_ARGUMENT,
                    f"in ensemble 'lpr_image', {where}corrupt: the picture does not decode",
                )
        return _answer([text_of(data) for data in pictures])

    def SystemSharedMemoryRegister(self, request, context):
        self.regions.append(request.name)
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(self, request, context):
        time.sleep(self.delay_s)
        if self.faults:
            context.abort(*self.faults.pop(0))
        self.regions.remove(request.name)
        return service_pb2.SystemSharedMemoryUnregisterResponse()


def _pictures(request) -> list[bytes]:
    if not request.raw_input_contents:  # in shared memory, where the fake does not look
        return [b""] * request.inputs[0].shape[0]
    raw = request.raw_input_contents[0]
    if request.inputs[0].datatype != "BYTES":
        size = len(raw) // request.inputs[0].shape[0]
        return [raw[at : at + size] for at in range(0, len(raw), size)]
    pictures, at = [], 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        pictures.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    return pictures


def _answer(texts: list[str]):
    count = len(texts)
    characters = np.zeros((count, contract.MAX_CHARACTERS), np.float32)
    characters[:, :7] = 0.5
    outputs = [
        (contract.PLATE, "BYTES", 1, b"".join(struct.pack("<I", 7) + t.encode() for t in texts)),
        (contract.CONFIDENCE, "FP32", 1, np.full(count, 0.5**7, np.float32).tobytes()),
        (contract.CHAR_CONFIDENCES, "FP32", contract.MAX_CHARACTERS, characters.tobytes()),
    ]
    answer = service_pb2.ModelInferResponse()
    for name, kind, width, raw in outputs:
        answer.outputs.add(name=name, datatype=kind, shape=[count, width])
        answer.raw_output_contents.append(raw)
    return answer


@contextmanager
def serve(
    fake: FakeTriton, port: int = 0, credentials: grpc.ServerCredentials | None = None
) -> Iterator[FakeTriton]:
    """Run it on a loopback port; `fake.url` names it."""
    server = grpc.server(
        ThreadPoolExecutor(8),
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)],
    )
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(fake, server)
    address = f"127.0.0.1:{port}"
    if credentials is None:
        fake.url = f"127.0.0.1:{server.add_insecure_port(address)}"
    else:
        fake.url = f"127.0.0.1:{server.add_secure_port(address, credentials)}"
    server.start()
    try:
        yield fake
    finally:
        server.stop(None).wait()
